# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=150
"""Shared anonymous memory of a program that moves while it writes on: the last stop looks at what was written alone where
that is certain, at all of it where children come and go or holes are made, and in any case everything comes along."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from node import Node  # noqa: E402
from sandbox import check, main, read  # noqa: E402
from watched import PAGES, Watched, can_tell, first_words  # noqa: E402


def moved(box, node, sock, name, told, *loops, between=None):
    """@loops: what parent and child do meanwhile; @between: what is done when a round is over."""
    t = Watched(box, name)
    for nr, (pid, loop) in enumerate(zip((t.parent, t.child), loops)):
        t.do(pid, loop, 1 + nr)
    inner = [t.parent, t.child]
    log = os.path.join(box.dir, f"{name}.log")
    with open(log, "w") as f:
        p = box.spawn([box.ckpt, "migrate", "-t", str(t.parent), "--to", f"unix:{sock}", "-v", "-v", "--max-rounds", "5",
                       "--max-downtime", "1", "--on-diverge", "stop",
                       *(("--bandwidth", "16M", "--compress", "none") if between else ())], f, f, env=node.env())
    if between:
        box.wait(lambda: "round 1" in read(log), "a round")
        between(t)
    status = box.wait_pid(p.pid, f"end of the migration: {read(log)}")
    p.returncode = status
    text = read(log)
    check(status == 0, f"{name}: {text}")
    tells = "trackers tell what was written" in text
    check(told is None or not can_tell("wp-async") or tells == told, f"{name}: trackers tell: {tells}: {text}")
    box.wait(lambda: t.parent in box.status, "end at the source")
    box.status.pop(t.parent)
    outer = [node.outer(pid) for pid in inner]
    for pid in outer[:len(loops)]:
        t.do(pid, "r")      # enough
    for nr, pid in enumerate(outer[:len(loops)]):
        t.do(pid, "V", 1 + nr)
    check(not os.path.exists(t.target.file("failures")), f"{name}: {read(t.target.file('failures'))}")
    check(not t.target.why(), f"{name}{t.target.why()}")
    if "D" not in loops:
        got = first_words(outer[1])
        bad = [i for i in range(PAGES) if got[i] != t.want[i]]
        check(not bad, f"{name}: page {bad[:3]}: {[got[i] for i in bad[:3]]}, not {[t.want[i] for i in bad[:3]]}")
    for pid in reversed(outer):
        os.kill(pid, 9)
    box.wait(node.idle, "nothing is left at the peer")


def dig(t):
    """Pages that went out already are holes now."""
    for page in range(40, 60):
        t.do(t.child, "R", page)
    t.do(t.child, "w", 50)


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    moved(box, node, sock, "still", True)
    moved(box, node, sock, "one-writes", True, "L")
    moved(box, node, sock, "both-write", True, "L", "L")
    moved(box, node, sock, "children", None, "F", "L")
    moved(box, node, sock, "holes", None, "D")
    moved(box, node, sock, "holes-once", False, "L", between=dig)
    peer.stop()


main(body)
