# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=150
"""Shared anonymous memory of a program that moves while it writes on: the last stop looks at what was written alone where
that is certain, at all of it where children come and go or holes are made, and in any case everything comes along."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main, read  # noqa: E402
from watched import Watched, can_tell  # noqa: E402


def moved(box, node, sock, name, told, *loops):
    """@loops: what parent and child do meanwhile."""
    t = Watched(box, name)
    for nr, (pid, loop) in enumerate(zip((t.parent, t.child), loops)):
        t.do(pid, loop, 1 + nr)
    inner = [t.parent, t.child]
    res = box.run_ckpt("migrate", "-t", t.parent, "--to", f"unix:{sock}", "-v", "-v", "--max-rounds", "5",
                       "--on-diverge", "stop", env=node.env())
    check(res.code == 0, f"{name}: {res}")
    tells = "trackers tell what was written" in res.err
    check(told is None or not can_tell("wp-async") or tells == told, f"{name}: trackers tell: {tells}: {res}")
    box.wait(lambda: t.parent in box.status, "end at the source")
    box.status.pop(t.parent)
    outer = [node.outer(pid) for pid in inner]
    for pid in outer[:len(loops)]:
        t.do(pid, "r")      # enough
    for nr, pid in enumerate(outer[:len(loops)]):
        t.do(pid, "V", 1 + nr)
    check(not os.path.exists(t.target.file("failures")), f"{name}: {read(t.target.file('failures'))}")
    check(not t.target.why(), f"{name}{t.target.why()}")
    for pid in reversed(outer):
        os.kill(pid, 9)
    box.wait(node.idle, "nothing is left at the peer")


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    moved(box, node, sock, "still", True)
    moved(box, node, sock, "one-writes", True, "L")
    moved(box, node, sock, "both-write", True, "L", "L")
    moved(box, node, sock, "children", None, "F", "L")
    moved(box, node, sock, "holes", None, "D")
    peer.stop()


main(body)
