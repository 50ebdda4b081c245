#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""The connection is cut after every so many bytes, in both directions: one copy lives, and it is right."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import busy  # noqa: E402
from node import Node, Proxy  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import check, main  # noqa: E402


def body(box):
    node = Node(box, "b")
    peer = node.receive("--listen", "127.0.0.1:0", "--insecure")
    proxy = Proxy(peer.where)
    prog = OneCopy(box, node)

    def migrate(what, *args):
        target = prog.start()
        res = box.run_ckpt("migrate", "-t", target.pid, "--to", proxy.where, "--insecure", *args,
                           env=node.env())
        where = prog.verify(what)
        check((res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
        return where

    proxy.reset()
    check(migrate("without a cut") == "there", "it moves without a cut")
    up, down = proxy.ways["up"].moved, proxy.ways["down"].moved
    box.log(f"a migration: {up} bytes up, {down} down")
    seen = {"here": 0, "there": 0}
    cuts = [("up", k) for k in (0, 1, 15, 16, 17, 200, *range(4000, up, max(1, up // 10)))]
    cuts += [("up", (f, k)) for f in ("offer", "pages", "records", "inventory") for k in (0, 9, 16)]
    cuts += [("up", (f, k)) for f in ("run", "done") for k in (0, 1, 8, 15, 16)]
    cuts += [("down", (f, k)) for f in ("hello", "answer") for k in (0, 9, 17)]
    cuts += [("down", (f, k)) for f in ("restored", "running") for k in (0, 1, 8, 15, 16)]
    for way, k in cuts:
        proxy.reset(**{way: k})
        what = f"cut {way} at {k}"
        where = migrate(what)
        seen[where] += 1
        prog.leftovers(what)
        # What the source knew decides: without RUN it stays, with all of it, it is gone.
        if way == "up" and k in (("run", 0), ("run", 8)):
            check(where == "here", f"{what}: it is {where}")
        if way == "down" and isinstance(k, tuple) and k[0] == "running":
            check(where == "there", f"{what}: it is {where}")
    box.log(f"{len(cuts)} cuts: {seen}")
    # The peer cannot be asked either: it stands still, and --resolve settles it.
    proxy.reset(refuse=True, down=("running", 8))
    target = prog.start()
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", proxy.where, "--insecure",
                       "--resolve-time", "0", env=node.env())
    check(res.code == 1 and "--resolve" in res.err, f"in doubt: {res}")
    box.wait(lambda: not prog.runs(target.pid), "in doubt it stands still at the source")
    before = busy.progress(target)
    proxy.reset()
    check(prog.runs(node.outer(target.pid)) or busy.progress(target) == before, "nobody runs it meanwhile")
    res = box.run_ckpt("migrate", "--resolve", "all", env=node.env())
    check(res.code == 0, f"resolve: {res}")
    prog.verify("resolved")
    prog.leftovers("resolved")
    prog.end()


main(body)
