#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Either ckpt is killed at every named point of a migration: one copy lives, and it is right."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import ROOT, check, main  # noqa: E402

SOURCE = ("migrate.connected", "migrate.offered", "dump.frozen", "dump.collected", "dump.pages",
          "migrate.frozen", "migrate.sent", "migrate.restored", "migrate.recorded", "migrate.stopped",
          "migrate.decided", "migrate.run_sent", "migrate.running", "migrate.killed")
PEER = ("receive.planned", "restore.built", "restore.release", "receive.restored", "receive.pended",
        "receive.decided", "receive.released")


def body(box):
    node = Node(box, "b")
    test = os.path.join(ROOT, "build/ckpt-test")
    sock = os.path.join(box.dir, "sock")
    prog = OneCopy(box, node)

    def settle(what):
        left = [f for f in os.listdir(node.run_dir) if f.startswith("source-")]
        if left:
            res = box.run_ckpt("migrate", "--resolve", "all", env=node.env())
            check(res.code == 0, f"{what}: {res}")
        where = prog.verify(what)
        prog.leftovers(what)
        return where

    peer = node.receive("--unix", sock)
    box.ckpt, plain = test, box.ckpt
    for how in ("kill", "fail"):
        for point in SOURCE:
            what = f"source {how} at {point}"
            target = prog.start()
            res = box.run_ckpt("migrate", "-t", target.pid, "--to", f"unix:{sock}",
                               env=node.env(CKPT_FAULT=f"{point}:{how}"))
            if how == "kill":
                check(res.code == -9, f"{what}: {res}")
            where = settle(what)
            box.log(f"{what}: it is {where}")
            if how == "fail":
                check((res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
    peer.stop()
    for how in ("kill", "fail"):
        for point in PEER:
            what = f"peer {how} at {point}"
            peer = node.receive("--unix", sock, env={"CKPT_FAULT": f"{point}:{how}"}, program=test)
            target = prog.start()
            res = box.run_ckpt("migrate", "-t", target.pid, "--to", f"unix:{sock}", env=node.env())
            where = settle(what)
            box.log(f"{what}: it is {where}")
            check((res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
            peer.stop()
    box.ckpt = plain
    prog.end()


main(body)
