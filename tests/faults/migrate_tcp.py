#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=400 needs=tool:nft,tool:ip
"""The fault points at which connections, addresses and network locks change hands: either ckpt fails, dies or is
stopped there. One copy lives; one node has the address; no lock is left; a client on a third node holds its
connection all along and gets no wrong byte and no reset."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../lib")]
import echo  # noqa: E402
from _invariants import TEST_BUILD, unmet  # noqa: E402
from _walk import HOWS, continuing, disturb  # noqa: E402
from lan import Asker, Lan  # noqa: E402
from sandbox import alive, check, main, state  # noqa: E402

SOURCE = ("tcp.locked", "tcp.repair", "migrate.stopped", "migrate.locked", "migrate.unaddressed", "migrate.decided",
          "migrate.run_sent", "migrate.running", "migrate.silent", "migrate.killed", "migrate.unlocked")
PEER = ("tcp.built", "receive.restored", "receive.pended", "receive.entering", "receive.addressed", "receive.decided",
        "receive.released")
ADDRESS = "10.9.0.7/24"
ARGS = ("--tcp", "keep", "--move-address", ADDRESS)


class Walk:
    def __init__(self, box):
        self.box, self.lan = box, Lan(box)
        self.sock = os.path.join(box.dir, "sock")
        self.env = self.lan.node.env()
        self.client = self.target = None
        self.turn = 0

    def start(self):
        """The program at node a, with its client."""
        if self.target:
            return
        self.turn += 1
        self.lan.add(ADDRESS)
        self.target, _ = echo.start(self.box, self.turn, "10.9.0.7", 7000)
        self.client = Asker(self.lan.connect("10.9.0.7", 7000), echo.ask)
        self.client.goes_on(self.box, "at first")

    def runs(self, pid):
        return bool(pid) and alive(pid) and state(pid) not in ("T", "t")

    def settle(self, what):
        """Returns "here" or "there"; afterwards the program is at node a, or ended."""
        if [f for f in os.listdir(self.lan.node.run_dir) if f.startswith("source-")]:
            res = self.box.run_ckpt("migrate", "--resolve", "all", env=self.env)
            check(res.code == 0, f"{what}: {res}")
        pid = self.target.pid
        self.box.wait(lambda: self.runs(pid) != self.runs(self.lan.node.outer(pid)), f"{what}: one copy runs", 20)
        here = self.runs(pid)
        self.client.goes_on(self.box, what)
        if here:
            self.box.wait(self.lan.node.idle, f"{what}: the peer drops its copy", 20)
        check(here or not alive(pid), f"{what}: a second copy is at the source")
        owners = self.lan.owners(ADDRESS)
        check(owners == ("a" if here else "b"), f"{what}: the address is at {owners!r}")
        self.box.wait(lambda: self.lan.tables() == "", f"{what}: a lock is left: {self.lan.tables()}", 20)
        if here:
            return "here"
        self.client.stop()
        self.client.sock.close()
        self.box.wait(lambda: not self.lan.node.outer(pid), f"{what}: the program ends with its client", 20)
        self.lan.at_b("ip", "address", "del", ADDRESS, "dev", "eth0")
        self.box.status.pop(pid, None)
        self.target = None
        return "there"


def body(box):
    w = Walk(box)
    hit = set()
    for point in SOURCE + PEER:
        for how in HOWS:
            what = f"{'source' if point in SOURCE else 'peer'} {how} at {point}"
            mark = os.path.join(box.dir, ".peer.met")
            at_peer = {"program": TEST_BUILD, "env": {"CKPT_FAULT": f"{point}:{how}", "CKPT_FAULT_MET": mark}}
            peer = w.lan.node.receive("--unix", w.sock, **(at_peer if point in PEER else {}))
            w.start()
            args = ("migrate", "-t", w.target.pid, "--to", f"unix:{w.sock}", *ARGS)
            if point in SOURCE:
                res = disturb(box, point, how, *args, env=w.env)
                met = res.met
            else:
                with continuing(how):
                    res = box.run_ckpt(*args, env=w.env)
                met = os.path.exists(mark)
                if met:
                    os.unlink(mark)
            if met:
                hit.add((point, how))
            where = w.settle(what)
            box.log(f"{what}: it is {where}")
            if how != "kill":
                check((res.code == 0) == (where == "there"), f"{what}: it is {where}, but {res}")
            peer.stop()
    missed = unmet([(p, h) for p in SOURCE + PEER for h in HOWS], hit)
    check(not missed, f"points that were not met: {missed}")


main(body)
