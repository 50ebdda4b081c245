#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""What goes wrong around a migration: two to one peer at once, a slow and distant link, garbage and repeated bytes, a
peer without memory. Each time exactly one copy of each program lives, whole and right."""
import json
import os
import random
import resource
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node, Proxy, Stream  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import BUILD, alive, check, main, read  # noqa: E402


class Far(Proxy):
    """A link of @rate bytes a second each way that takes @delay seconds, as netem would make it."""

    def __init__(self, where, rate, delay):
        self.rate, self.delay = rate, delay
        super().__init__(where)

    def forward(self, con, ways):
        peer = socket.create_connection(self.to)
        for a, b in ((con, peer), (peer, con)):
            a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            threading.Thread(target=self.one_way, args=(a, b), daemon=True).start()

    def one_way(self, a, b):
        flying, more = [], threading.Condition()

        def arrive():
            while True:
                with more:
                    while not flying:
                        more.wait()
                    at, data = flying.pop(0)
                time.sleep(max(0, at - time.monotonic()))
                try:
                    if not data:
                        b.shutdown(socket.SHUT_WR)
                        return
                    b.sendall(data)
                except OSError:
                    return
        threading.Thread(target=arrive, daemon=True).start()
        free = time.monotonic()
        data = True
        while data:
            try:
                data = a.recv(16384)
            except OSError:
                data = b""
            free = max(free, time.monotonic()) + len(data) / self.rate
            time.sleep(max(0, free - time.monotonic()))
            with more:
                flying.append((free + self.delay, data))
                more.notify()


class Noise(Proxy):
    """Changes what goes up once: @how(data) of the piece in which byte @at is."""

    def spoil(self, at, how):
        self.reset()
        self.at, self.how = at, how
        self.ways["up"] = Spoiled(at, how)

    def forward(self, con, ways):
        way = ways["up"]
        try:
            peer = socket.create_connection(self.to)
        except OSError:
            con.close()
            return

        def down():
            try:
                while (data := peer.recv(65536)):
                    con.sendall(data)
                con.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        threading.Thread(target=down, daemon=True).start()
        try:
            while (data := con.recv(65536)):
                peer.sendall(way.change(data) if isinstance(way, Spoiled) else data)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            try:        # the source is told, and hears it when it has said all
                while con.recv(65536):
                    pass
            except OSError:
                pass


class Spoiled(Stream):
    def __init__(self, at, how):
        super().__init__(None)
        self.at, self.how = at, how

    def change(self, data):
        begin = self.moved
        self.moved += len(data)
        if begin <= self.at < self.moved:
            return self.how(data, self.at - begin)
        return data


def flipped(data, k):
    return data[:k] + bytes([data[k] ^ 0x40]) + data[k + 1:]


def repeated(data, k):
    return data[:k] + data


def dropped(data, k):
    return data[:k] + data[k + 24:]


def noise(box, node, prog, peer):
    proxy = Noise(peer.where)
    # What makes a frame longer than what follows is noticed after half a minute: not here.
    for how, places in ((flipped, (3, 20, 700, 5000, 300_000)), (repeated, (5000, 300_000)), (dropped, (300_000,))):
        for at in places:
            what = f"{how.__name__} at {at}"
            proxy.spoil(at, how)
            target = prog.start()
            res = box.run_ckpt("migrate", "-t", target.pid, "--to", proxy.where, "--insecure", env=node.env())
            check(res.code == 1 and res.err.count("ckpt: E-") == 1, f"{what}: one clear error: {res}")
            check(prog.verify(what) == "here", f"{what}: it stays")
    rng = random.Random(7)
    for n in range(20):     # whoever talks to the port says anything
        s = socket.create_connection(proxy.to)
        s.sendall(rng.randbytes(rng.choice((1, 16, 64, 5000))))
        s.close()
    check(peer.ended() is None, f"the peer stays: {peer.text()}")


def two_at_once(box, node, peer):
    progs = [OneCopy(box, node), OneCopy(box, node)]
    progs[0].n, progs[1].n = 500, 1000
    targets = [p.start() for p in progs]
    procs = []
    for i, t in enumerate(targets):
        with open(os.path.join(box.dir, f"two{i}"), "w") as f:
            procs.append(box.spawn([box.ckpt, "migrate", "-t", str(t.pid), "--to", peer.where, "--insecure"], f, f,
                                   env=node.env()))
        procs[-1].returncode = 0
    for i, p in enumerate(procs):
        status = box.wait_pid(p.pid, "two migrations at once")
        check(status == 0, f"two at once: {read(os.path.join(box.dir, f'two{i}'))}")
    # verify() waits until only the listener is left over there, which is not so before both have ended.
    for t in targets:
        box.wait(lambda: node.outer(t.pid), "both are there")
        check(not alive(t.pid), "and not here")
    for p, t in zip(progs, targets):
        node.finish(t, "one of two")
        p.target = None


def far(box, node, prog, peer):
    proxy = Far(peer.where, 12_500_000, 0.025)      # 100 Mbit/s, 50 ms there and back
    target = prog.start()
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", proxy.where, "--insecure", "--max-downtime", "500",
                       env=node.env())
    check(res.code == 0, f"a slow link: {res}")
    check(prog.verify("a slow link") == "there", "it moved")


def no_memory(box, node, prog):
    """The peer may not use as much as the program has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))      # of the files that hold what comes
    target = prog.start()
    try:
        res = box.run_ckpt("dump", "-t", target.pid, "-D", os.path.join(box.dir, "image"))
        check(res.code == 1 and "File too large" in res.err and "ulimit -f" in res.err, f"no room for a dump: {res}")
        peer = node.receive("--listen", "127.0.0.1:0", "--insecure")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, "--insecure", "--json", env=node.env())
    check(res.code == 1 and "File too large" in res.err and "ulimit -f" in res.err, f"the peer has no room: {res}")
    # Whatever happens, standard output is a line for each event.
    events = [json.loads(line) for line in res.out.splitlines()]
    check(events and events[-1]["event"] == "error" and events[-1]["error"]["id"] == "E-NOMEM", f"events: {res}")
    check(prog.verify("the peer has no room") == "here", "it stays")
    # It says so while the source is still sending; what it said is what the source says.
    t = box.start(os.path.join(BUILD, "tests/flow/mig_mem"), "48", "1", "0", subdir="large").wait_ready()
    for how in (("--tracker", "none"), ("--max-rounds", "0")):
        res = box.run_ckpt("migrate", "-t", t.pid, "--to", peer.where, "--insecure", "--compress", "none", *how,
                           env=node.env())
        check(res.code == 1 and "E-NOMEM: peer" in res.err and "cut" not in res.err, f"what the peer said: {res}")
    t.finish()
    peer.stop()


def body(box):
    node = Node(box, "b")
    prog = OneCopy(box, node)
    peer = node.receive("--listen", "127.0.0.1:0", "--insecure")
    noise(box, node, prog, peer)
    far(box, node, prog, peer)
    two_at_once(box, node, peer)
    peer.stop()
    no_memory(box, node, prog)
    prog.end()


main(body)
