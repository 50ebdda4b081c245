#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=400
"""Every fault point of a migration, at the source and at the peer: either ckpt fails, dies or is stopped
there, and exactly one copy lives, whole and right; nothing of the other is left."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _invariants import TEST_BUILD, World, points, points_of, unmet  # noqa: E402
from _walk import HOWS, continuing, disturb, private_world  # noqa: E402
from node import Node  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import check, main  # noqa: E402

# What a dump and a restore meet, a migration meets as well; some of it in the middle of the hand-over.
ALSO_SOURCE = ("dump.frozen", "dump.collected", "dump.pages", "inject.run")
ALSO_PEER = ("restore.opened", "restore.built", "restore.release")


def body(box):
    private_world()
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    prog = OneCopy(box, node)
    hit = set()
    every = points_of("migrate")
    at_source = [p for p in every if not p.startswith("receive.")] + [p for p in ALSO_SOURCE if p in points()]
    at_peer = [p for p in every if p.startswith("receive.")] + [p for p in ALSO_PEER if p in points()]

    def settle(what):
        left = [f for f in os.listdir(node.run_dir) if f.startswith("source-")]
        if left:
            res = box.run_ckpt("migrate", "--resolve", "all", env=node.env())
            check(res.code == 0, f"{what}: {res}")
        where = prog.verify(what)
        prog.leftovers(what)
        return where

    def world():
        return World(box, ours=(prog.start().dir, node.run_dir))

    peer = node.receive("--unix", sock)
    for point in at_source:
        for how in HOWS:
            what = f"source {how} at {point}"
            before = world()
            target = prog.start()
            res = disturb(box, point, how, "migrate", "-t", target.pid, "--to", f"unix:{sock}", env=node.env())
            if res.met:
                hit.add(point)
            if how == "kill" and res.met:
                check(res.code == -9, f"{what}: {res}")
            where = settle(what)
            box.log(f"{what}: it is {where}")
            if how != "kill":
                check((res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
            before.clean(what)
    peer.stop()
    for point in at_peer:
        for how in HOWS:
            what = f"peer {how} at {point}"
            before = world()
            mark = os.path.join(box.dir, ".fault.met")
            peer = node.receive("--unix", sock, program=TEST_BUILD,
                                env={"CKPT_FAULT": f"{point}:{how}", "CKPT_FAULT_MET": mark})
            target = prog.start()
            with continuing(how):
                res = box.run_ckpt("migrate", "-t", target.pid, "--to", f"unix:{sock}", env=node.env())
            if os.path.exists(mark):
                hit.add(point)
                os.unlink(mark)
            where = settle(what)
            box.log(f"{what}: it is {where}")
            check((res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
            peer.stop()
            before.clean(what, allowed=lambda kind, name: name in (sock, f"@{sock}"))
    prog.end()
    missed = unmet(every, hit)
    check(not missed, f"points that no migration meets: {missed}")


main(body)
