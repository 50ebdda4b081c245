#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""A tree, most of whose processes are made at the peer while the source runs: the connection is cut in every phase, and
either ckpt is killed where it decides. Each time all of the tree runs in one place, and nothing of it in the other."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))
from _invariants import TEST_BUILD  # noqa: E402
from node import Node, Proxy  # noqa: E402
from sandbox import BUILD, alive, check, main, state, tree  # noqa: E402

KILLED_SOURCE = ("migrate.round", "migrate.frozen", "migrate.sent", "migrate.restored")
KILLED_PEER = ("receive.round", "receive.planned", "restore.built", "receive.restored", "receive.pended", "receive.entering",
               "receive.decided", "receive.released")


class Tree:
    """The program, started anew when it ended."""

    def __init__(self, box, node):
        self.box, self.node, self.target, self.n, self.seen = box, node, None, 0, {"here": 0, "there": 0}

    def start(self):
        if not self.target:
            self.n += 1
            self.target = self.box.start(os.path.join(BUILD, "tests/flow/mig_tree"), "1", subdir=f"tree{self.n}")
            self.target.wait_ready()
            self.members = tree(self.target.pid)
            check(len(self.members) == 11, f"its processes: {self.members}")
        return self.target.pid

    def settled(self, what):
        """Wait until all of it runs in one place, and say where."""
        def runs(pids):
            return [bool(p) and alive(p) and state(p) not in ("T", "t") for p in pids]

        def where():
            here, there = runs(self.members), runs([self.node.outer(p) for p in self.members])
            if all(here) and not any(self.node.outer(p) for p in self.members):
                return "here"
            return "there" if all(there) and not any(map(alive, self.members)) else None
        found = self.box.wait(where, f"{what}: all of it runs in one place: {[state(p) for p in self.members]} here, "
                                     f"{[state(self.node.outer(p)) for p in self.members]} there", timeout=40)
        self.seen[found] += 1
        if found == "there":
            self.node.finish(self.target, what)
            self.box.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in self.members), f"{what}: its numbers are free")
            self.box.status.pop(self.target.pid, None)
            self.target = None
        self.box.wait(self.node.idle, f"{what}: nothing is left at the peer", timeout=40)
        return found


def body(box):
    node = Node(box, "b", ipc=True)
    prog = Tree(box, node)

    def migrate(what, to, *args, fault=None):
        env = node.env(CKPT_FAULT=fault) if fault else node.env()
        argv = [TEST_BUILD if fault else box.ckpt, "migrate", "-t", str(prog.start()), "--to", to, "--insecure", *args]
        res = box.run(argv, env=env, name="migrate")
        if any(f.startswith("source-") for f in os.listdir(node.run_dir)):
            left = box.run_ckpt("migrate", "--resolve", "all", env=node.env())
            check(left.code == 0, f"{what}: {left}")
        where = prog.settled(what)
        box.log(f"{what}: it is {where}")
        check(res.code == -9 or (res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
        return where

    peer = node.receive("--listen", "127.0.0.1:0", "--insecure")
    proxy = Proxy(peer.where)
    proxy.reset()
    check(migrate("without a cut", proxy.where) == "there", "it moves")
    up = proxy.ways["up"].moved
    cuts = [("up", k) for k in range(up // 6, up, up // 5)]
    cuts += [("up", (f, k)) for f in ("tree", "space", "same", "pages", "share", "round", "records", "inventory", "run", "done") for k in (8,)]
    cuts += [("down", (f, 8)) for f in ("round", "restored", "running")]
    for way, k in cuts:
        proxy.reset(**{way: k})
        migrate(f"cut {way} at {k}", proxy.where)
    for point in KILLED_SOURCE:
        migrate(f"source killed at {point}", peer.where, fault=f"{point}:kill")
    where = peer.where
    peer.stop()
    for point in KILLED_PEER:
        peer = node.receive("--listen", where, "--insecure", program=TEST_BUILD, env={"CKPT_FAULT": f"{point}:kill"})
        migrate(f"peer killed at {point}", where)
        peer.stop()
    box.log(f"{prog.seen}")
    check(min(prog.seen.values()) > 2, f"where it was: {prog.seen}")
    if prog.target:
        prog.target.finish()


main(body)
