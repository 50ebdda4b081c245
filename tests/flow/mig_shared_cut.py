#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Memory that processes share is on its way, part of it in a segment with a key, which cannot be made in secret: the
connection is cut in every phase, either ckpt is killed. The program runs in one place and is right; no segment is left at a
peer that gave up, and what a killed one left is in nobody's way."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))
from _invariants import TEST_BUILD  # noqa: E402
from node import Node, Proxy  # noqa: E402
from sandbox import BUILD, alive, check, main, read, state, tree  # noqa: E402

KEY = 0x636b7075
KILLED_SOURCE = ("migrate.round", "migrate.frozen", "migrate.sent")
KILLED_PEER = ("receive.round", "receive.planned", "restore.built", "restore.finished")


class Program:
    """tests/flow/mig_shared, started anew when it ended."""

    def __init__(self, box, node):
        self.box, self.node, self.target, self.n, self.seen = box, node, None, 0, {"here": 0, "there": 0}

    def start(self):
        if not self.target:
            self.n += 1
            self.steps = 0
            self.target = self.box.start(os.path.join(BUILD, "tests/flow/mig_shared"), "4", hex(KEY), subdir=f"shared{self.n}")
            self.target.wait_ready()
            self.members = tree(self.target.pid)
        return self.target.pid

    def settled(self, what):
        """Wait until all of it runs in one place, and say where."""
        def runs(pids):
            return [bool(p) and alive(p) and state(p) not in ("T", "t") for p in pids]

        def where():
            if all(runs(self.members)) and not any(self.node.outer(p) for p in self.members):
                return "here"
            return "there" if all(runs([self.node.outer(p) for p in self.members])) and not any(map(alive, self.members)) else None
        found = self.box.wait(where, f"{what}: all of it runs in one place", timeout=40)
        self.seen[found] += 1
        if found == "there":
            self.node.finish(self.target, what)
            self.box.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in self.members), f"{what}: its numbers are free")
            self.end()
        else:
            # It goes on, and changes all it has.
            self.steps += 1
            os.kill(self.target.pid, signal.SIGUSR1)
            self.box.wait(lambda: os.path.exists(self.target.file(f"step{self.steps}")), f"{what}: a step{self.target.why()}")
        self.box.wait(self.node.idle, f"{what}: nothing is left at the peer", timeout=40)
        return found

    def end(self):
        """The segment stays where it was made."""
        if self.target:
            self.box.status.pop(self.target.pid, None)
            self.box.run(["ipcrm", "-m", read(self.target.file("segment"))])
            self.target = None


def body(box):
    node = Node(box, "b", ipc=True)
    prog = Program(box, node)

    def segments():
        return re.findall(r"^0x.*$", box.run(node.enter(["ipcs", "-m"])).out, re.M)

    def migrate(what, to, fault=None):
        env = node.env(CKPT_FAULT=fault) if fault else node.env()
        argv = [TEST_BUILD if fault else box.ckpt, "migrate", "-t", str(prog.start()), "--to", to, "--insecure"]
        res = box.run(argv, env=env, name="migrate")
        if any(f.startswith("source-") for f in os.listdir(node.run_dir)):
            left = box.run_ckpt("migrate", "--resolve", "all", env=node.env())
            check(left.code == 0, f"{what}: {left}")
        where = prog.settled(what)
        box.log(f"{what}: it is {where}; {segments()}")
        check(res.code == -9 or (res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
        return where

    try:
        peer = node.receive("--listen", "127.0.0.1:0", "--insecure")
        proxy = Proxy(peer.where)
        proxy.reset()
        check(migrate("without a cut", proxy.where) == "there", "it moves")
        up = proxy.ways["up"].moved
        cuts = [("up", k) for k in range(up // 6, up, up // 5)]
        cuts += [("up", ("share", k)) for k in (0, 8, 15, 16, 20)] + [("up", (f, 9)) for f in ("round", "records", "inventory", "run")]
        cuts += [("down", ("round", 8)), ("down", ("restored", 8))]
        for way, k in cuts:
            proxy.reset(**{way: k})
            migrate(f"cut {way} at {k}", proxy.where)
            check(not segments(), f"cut {way} at {k}: a segment is left: {segments()}")
        for point in KILLED_SOURCE:
            migrate(f"source killed at {point}", peer.where, fault=f"{point}:kill")
            check(not segments(), f"source killed at {point}: a segment is left: {segments()}")
        where = peer.where
        peer.stop()
        for point in KILLED_PEER:
            peer = node.receive("--listen", where, "--insecure", program=TEST_BUILD, env={"CKPT_FAULT": f"{point}:kill"})
            check(migrate(f"peer killed at {point}", where) == "here", f"peer killed at {point}: it stays")
            peer.stop()
            peer = node.receive("--listen", where, "--insecure")
            check(migrate(f"again, behind {point}", where) == "there", f"behind {point}: it moves")
            check(not segments(), f"behind {point}: a segment is left: {segments()}")
            peer.stop()
        box.log(f"{prog.seen}")
        check(min(prog.seen.values()) > 3, f"where it was: {prog.seen}")
        if prog.target:
            prog.target.finish()
    finally:
        prog.end()


main(body)
