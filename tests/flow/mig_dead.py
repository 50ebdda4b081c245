#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120 needs=tool:ip,tool:nft
"""The link to the peer dies without a word while the program stands still. Without RUN the peer cannot have started it, so
it goes on at the source as soon as the link is known to be dead, which takes seconds and not half a minute; with RUN it
is in doubt, and stands still until somebody can say."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from lan import Lan  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import check, main  # noqa: E402

HOOK = """#!/bin/sh
[ "$1" = {point} ] || exit 0
ip link set eth0 down
date +%s.%N > {log}
"""


def body(box):
    lan = Lan(box)
    prog = OneCopy(box, lan.node)

    def migrate(point, *args):
        path, log = (os.path.join(box.dir, f"{point}{s}") for s in ("", ".log"))
        with open(path, "w") as f:
            f.write(HOOK.format(point=point, log=log))
        os.chmod(path, 0o755)
        peer = lan.node.receive("--listen", "10.9.0.2:0", "--insecure", "--hook", path)
        target = prog.start()
        res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, "--insecure", *args, env=lan.node.env())
        with open(log) as f:
            took = time.time() - float(f.read())
        return peer, target, res, took

    peer, target, res, took = migrate("ready")
    check(res.code == 1 and "is dead" in res.err, f"before RUN: {res}")
    check(prog.runs(target.pid), "before RUN: it goes on here, though the peer cannot be asked")
    check(took < 20, f"before RUN: it stood still for {took:.1f} s")
    box.log(f"it stood still for {took:.1f} s")
    lan.at_b("ip", "link", "set", "eth0", "up")
    check(prog.verify("before RUN") == "here", "before RUN: it stays")
    prog.leftovers("before RUN")
    peer.stop()

    peer, target, res, took = migrate("enter", "--resolve-time", "0")
    check(res.code == 1 and "--resolve" in res.err, f"behind RUN: {res}")
    check(not prog.runs(target.pid), "behind RUN: it stands still here")
    lan.at_b("ip", "link", "set", "eth0", "up")
    res = box.run_ckpt("migrate", "--resolve", "all", env=lan.node.env())
    check(res.code == 0 and "there" in res.out, f"resolve: {res}")
    check(prog.verify("behind RUN") == "there", "behind RUN: it moved")
    prog.end()
    peer.stop()


main(body)
