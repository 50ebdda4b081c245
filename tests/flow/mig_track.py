#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A program with incremental checkpoints moves: its session ends at the source, one begins at the peer with a first
checkpoint there, and an increment to it is made and restored there. If it stays, its next checkpoint is a full one."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main  # noqa: E402


def body(box):
    node = Node(box, "b")
    for argv in (["mount", "-t", "tmpfs", "tmpfs", "/run"],):
        check(box.run(node.enter(argv)).code == 0, f"{argv}")

    def there(*args):
        res = box.run(node.enter([box.ckpt, *map(str, args)]), env=node.env())
        check(res.code == 0, f"at the peer: {res}")
        return res

    sock, to = os.path.join(box.dir, "sock"), f"unix:{os.path.join(box.dir, 'sock')}"
    keep = os.path.join(box.dir, "keep")
    os.mkdir(keep, 0o700)
    t = box.start(os.path.join(BUILD, "tests/flow/mig_mem"), "16", "200", "1", subdir="mem")
    t.wait_ready()
    base, inc = os.path.join(box.dir, "base"), os.path.join(box.dir, "inc")
    box.dump(t, "--track", image=base)

    # Nobody said where its checkpoints go: found before anything is touched.
    peer = node.receive("--unix", sock)
    res = box.run_ckpt("migrate", "-t", t.pid, "--to", to, "--track", env=node.env())
    check(res.code == 3 and "E-TRACK" in res.err and "--keep-image" in res.err, f"no place: {res}")
    stats = json.loads(box.dump(t, "--parent", base, "--json", image=inc).out)["stats"]
    check(stats["pages_parent"] > 1000, f"the session is unharmed: {stats}")

    # It stays after all: an increment would lose what the migration saw.
    res = box.run_ckpt("migrate", "-t", t.pid, "--to", to, "--bandwidth", "40M", "--max-downtime", "0", "--max-rounds", "2",
                       "--on-diverge", "fail", env=node.env())
    if res.code:
        check("writes" in res.err, f"it does not converge: {res}")
        full = os.path.join(box.dir, "full")
        res = box.dump(t, "--parent", inc, image=full)
        check("full checkpoint" in res.err, f"nothing is left of the session: {res}")
    else:
        check(False, f"it moved: {res}")
    peer.stop()

    peer = node.receive("--unix", sock, "--keep-image", keep, "--json")
    res = box.run_ckpt("migrate", "-t", t.pid, "--to", to, "--track", "--json", env=node.env())
    check(res.code == 0, f"it moves: {res}")
    box.wait_pid(t.pid, "it is ended at the source")
    done = json.loads(res.out.splitlines()[-1])
    first = done["checkpoint"]
    check(first.startswith(f"{keep}/{t.pid}-"), f"where it is: {done}")
    box.wait(lambda: '"tracked"' in peer.text() or "error" in peer.text(), f"a checkpoint is made there: {peer.text()}")
    check("error" not in peer.text(), peer.text())
    status = json.loads(there("track", "status", "-t", t.pid, "--json").out)
    check(status["armed"] and status["parent_path"] == first, f"a session at the peer: {status}")

    second = os.path.join(box.dir, "second")
    stats = json.loads(there("dump", "-t", t.pid, "--parent", first, "-D", second, "--json").out)["stats"]
    check(stats["pages_parent"] > 16 * 256 / 2, f"an increment: {stats}")
    there("dump", "-t", t.pid, "--parent", second, "-D", os.path.join(box.dir, "third"), "--kill")
    box.wait(lambda: not node.outer(t.pid), "it is ended at the peer")
    there("restore", "-D", os.path.join(box.dir, "third"), "--detach")
    node.finish(t, "the increment")
    peer.stop()


main(body)
