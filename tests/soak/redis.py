#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=90 needs=tool:redis-server,tool:nft
"""Redis under load is checkpointed every 100 ms, each series ends with a restore of a second copy at the other node,
the program moves there and back; now and then it is dumped, killed and restored with its connections kept. No answer
is ever wrong, and neither it nor anything of ckpt grows."""
import ctypes
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _soak import PATIENCE, Growth, children, knob  # noqa: E402
from _invariants import World  # noqa: E402
from _walk import private_world  # noqa: E402
from node import Node  # noqa: E402
from sandbox import Skip, check, main, read  # noqa: E402
from series import bound, keepers  # noqa: E402

SECONDS = knob("SECONDS", 2)
MOVES = knob("MIGRATIONS", 2)
KEYS = knob("MIB", 4) * 1024
SIZE, BATCH, CLIENTS, PORT, PID = 1024, 256, 3, 7000, 5000
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def value(i, version):
    return hashlib.shake_128(b"%d.%d" % (i, version)).digest(SIZE)


class Wrong(Exception):
    """An answer that cannot be."""


class Client:
    def __init__(self, ns):
        """A connection made in a network namespace; the thread stays in it."""
        check(not LIBC.setns(ns, CLONE_NEWNET), f"setns, errno {ctypes.get_errno()}")
        self.sock = socket.create_connection(("127.0.0.1", PORT), timeout=60)
        self.file = self.sock.makefile("rb")

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Wrong(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$" and rest != b"-1":
            data = self.file.read(int(rest) + 2)
            if len(data) != int(rest) + 2:
                raise ConnectionError("closed")
            return data[:-2]
        return None if kind == b"$" else rest

    def ask(self, *parts):
        parts = [p if isinstance(p, bytes) else str(p).encode() for p in parts]
        self.sock.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self.reply()

    def close(self):
        self.file.close()
        self.sock.close()


class Load(threading.Thread):
    """Counts, and writes and reads keys of its own; remembers what was acknowledged."""

    def __init__(self, soak, number):
        super().__init__(daemon=True)
        self.soak, self.number, self.key = soak, number, f"count{number}"
        self.rng = random.Random(number)
        self.acked, self.reconnects, self.error = 0, 0, None
        self.version = {}               # of my keys, as acknowledged
        self.unsure = set()             # my keys whose last write had no answer
        self.stopping = threading.Event()

    def run(self):
        client = None
        while not self.stopping.is_set():
            try:
                client = client or Client(self.soak.where().ns)
                self.step(client)
            except (Wrong, Exception) as e:       # noqa: B014
                if isinstance(e, OSError):
                    if client:
                        client.close()
                        self.reconnects += 1
                    client = None
                    time.sleep(0.01)
                    continue
                self.error = f"{self.key}: {type(e).__name__} {e}"
                return

    def step(self, client):
        n = client.ask("INCR", self.key)
        # One more than acknowledged may have been done when the connection broke.
        if n not in (self.acked + 1, self.acked + 2):
            raise Wrong(f"{n} after {self.acked} was acknowledged")
        self.acked = n
        i = self.rng.randrange(KEYS // CLIENTS) * CLIENTS + self.number
        got, v = client.ask("GET", f"key:{i}"), self.version.get(i, 0)
        if got != value(i, v):
            if i not in self.unsure or got != value(i, v + 1):
                raise Wrong(f"key:{i} has not the value of version {v}")
            self.version[i] = v = v + 1
        self.unsure.add(i)
        client.ask("SET", f"key:{i}", value(i, v + 1))
        self.version[i] = v + 1
        self.unsure.remove(i)


class Place(Node):
    """A node with a network and a /run of its own."""

    def __init__(self, box, name):
        super().__init__(box, name, net=True)
        for argv in (["ip", "link", "set", "lo", "up"], ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]):
            subprocess.run(self.enter(argv), check=True)
        self.ns = os.open(f"/proc/{self.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.sock = os.path.join(box.dir, f"sock-{name}")
        self.peer = self.receive("--unix", self.sock)

    def low(self, argv):
        """A command here whose pids stay away from those of the program, however long this goes on."""
        return self.enter(["sh", "-c", 'echo 20000 >/proc/sys/kernel/ns_last_pid; exec "$@"', "sh", *map(str, argv)])

    def ckpt(self, *args):
        res = self.box.run(self.low([self.box.ckpt, *args]), env=self.env(), name="ckpt", timeout=120)
        check(res.code == 0, f"node {self.name}: {res}")
        return res

    def servers(self):
        return children(self.peer.proc.pid)

    def redis(self):
        return self.outer(PID)

    def clean(self, what):
        """Nothing but its init and its peer is here; no lock, no session, no decision."""
        self.box.wait(self.idle, f"{what}: processes are left at node {self.name}")
        left = subprocess.run(self.enter(["nft", "list", "tables"]), capture_output=True, text=True, check=True).stdout
        check(not left, f"{what}: a lock is left at node {self.name}: {left}")

        def files():
            return os.listdir(f"/proc/{self.init}/root/run/ckpt") + os.listdir(self.run_dir)
        if os.path.isdir(f"/proc/{self.init}/root/run/ckpt"):
            self.box.wait(lambda: not files(), f"{what}: files are left at node {self.name}: {files()}")


class Soak:
    def __init__(self, box):
        self.box, self.rng = box, random.Random(knob("SEED", 7447))
        self.nodes = [Place(box, "a"), Place(box, "b")]
        self.at = 0
        self.series = os.path.join(box.dir, "series")
        self.dumps = 0
        self.load = []

    def where(self):
        return self.nodes[self.at]

    def there(self):
        return self.nodes[1 - self.at]

    def start(self):
        a = self.where()
        self.box.run(a.enter(["sh", "-c", f"echo {PID - 1} >/proc/sys/kernel/ns_last_pid; cd {self.box.dir}; setsid redis-server"
                              f" --port {PORT} --save '' --appendonly no --daemonize no </dev/null >/dev/null 2>&1 &"]))
        self.box.wait(a.redis, "Redis has its pid")
        client = self.box.wait(lambda: self.client(a), "Redis answers")
        for first in range(0, KEYS, BATCH):
            client.ask("MSET", *(x for i in range(first, first + BATCH) for x in (f"key:{i}", value(i, 0))))
        client.close()
        self.load = [Load(self, n) for n in range(CLIENTS)]
        for one in self.load:
            one.start()
        self.goes_on("at the beginning")

    def client(self, node):
        try:
            return Client(node.ns)
        except OSError:
            return None

    def goes_on(self, what):
        before = [one.acked + 20 for one in self.load]

        def on():
            wrong = [one.error for one in self.load if one.error]
            check(not wrong, f"{what}: {'; '.join(wrong)}")
            return all(one.acked > b for one, b in zip(self.load, before))
        self.box.wait(on, f"{what}: every client is answered", 60)

    def checkpoints(self, seconds):
        """A series, every 100 ms, for a while; then what its newest is worth."""
        node, out = self.where(), os.path.join(self.box.dir, "every.out")
        if seconds <= 0:
            return
        with open(out, "w") as f:
            p = self.box.spawn(node.low([self.box.ckpt, "dump", "-t", PID, "-D", self.series, "--every", "100ms", "--keep", "3",
                                         "--tcp", "close"]), f, f, env=node.env())
        p.returncode = 0
        # The first ones load what the others read the kernel's records with.
        self.box.wait(lambda: read(out).count("saved process") >= 6, f"checkpoints: {read(out)}", 60)
        grow = [Growth("dump --every", children(p.pid)[0], 16 << 10)]
        grow += [Growth("its keeper", k, 4 << 10) for k in self.keepers(node)]
        floor = None
        end = time.monotonic() + seconds
        while time.monotonic() < end or floor is None:
            floor = [one.acked for one in self.load]
            n = read(out).count("saved process")
            self.box.wait(lambda: p.pid in self.box.status or read(out).count("saved process") >= n + 2,
                          "the series goes on", 60, step=0.05)
            check(p.pid not in self.box.status, f"dump --every ended: {read(out)[-2000:]}")
            self.goes_on("between checkpoints")
        for g in grow:
            self.box.log(g.look("after a series"))
        os.kill(children(p.pid)[0], 15)
        check(self.box.wait_pid(p.pid, "end of dump --every", 60) == 0, f"dump --every: {read(out)[-2000:]}")
        text = read(out)
        check("E-" not in text and "not folded" not in text, f"dump --every: {text[-2000:]}")
        check(text.count("full checkpoint") <= 1, f"tracking was lost: {text[-2000:]}")
        self.dumps += text.count("saved process")
        node.ckpt("track", "stop", "-t", PID)
        check(len(os.listdir(self.series)) <= bound(3), f"the chain is bounded: {os.listdir(self.series)}")
        self.second_copy(floor)
        shutil.rmtree(self.series)

    def keepers(self, node):
        return [p for p in keepers() if node.inside(p)]

    def second_copy(self, floor):
        """The newest checkpoint, restored at the other node beside the original: it answers as the original did then."""
        node = self.there()
        node.ckpt("verify", "-D", self.series + "/latest")
        node.ckpt("restore", "-D", self.series + "/latest", "--detach")
        client = self.box.wait(lambda: self.client(node), "the copy answers")
        for one, low in zip(self.load, floor):
            n = int(client.ask("GET", one.key))
            check(low <= n <= one.acked + 1, f"the copy has {one.key}={n}, not between {low} and {one.acked + 1}")
        for first in range(0, KEYS, BATCH):
            got = client.ask("MGET", *(f"key:{i}" for i in range(first, first + BATCH)))
            for i, data in enumerate(got, first):
                if data in (value(i, 0), value(i, self.load[i % CLIENTS].version.get(i, 0))):
                    continue
                top = self.load[i % CLIENTS].version.get(i, 0) + 1
                check(any(data == value(i, v) for v in range(top, 0, -1)), f"the copy has a value of key:{i} that never was")
        client.sock.sendall(b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n")
        self.box.wait(lambda: not node.redis(), "the copy ends")
        client.close()

    def move(self):
        here, there = self.where(), self.there()
        here.ckpt("migrate", "-t", PID, "--to", f"unix:{there.sock}", "--tcp", "close")
        self.at = 1 - self.at
        self.goes_on("after a migration")
        self.box.wait(lambda: not here.redis(), "it is ended at the source")

    def keep(self):
        """Dumped, killed and restored with its connections."""
        node, image = self.where(), os.path.join(self.box.dir, "kept")
        before = [one.reconnects for one in self.load]
        node.ckpt("dump", "-t", PID, "-D", image, "--tcp", "keep", "--kill")
        self.box.wait(lambda: not node.redis(), "it is ended by the dump")
        node.ckpt("restore", "-D", image, "--detach")
        self.goes_on("after a restore with its connections")
        check([one.reconnects for one in self.load] == before, "a connection was lost")
        shutil.rmtree(image)

    def stop(self):
        for one in self.load:
            one.stopping.set()
        for one in self.load:
            one.join(30)
            check(not one.is_alive() and not one.error, f"the load ends: {one.error}")
        client = Client(self.where().ns)
        for one in self.load:
            n = int(client.ask("GET", one.key))
            check(n in (one.acked, one.acked + 1), f"{one.key} is {n}, {one.acked} were acknowledged")
        client.sock.sendall(b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n")
        self.box.wait(lambda: not self.where().redis(), "Redis ends")


def body(box):
    if not shutil.which("redis-server"):
        raise Skip("redis-server")
    private_world()
    box.timeout = PATIENCE
    soak = Soak(box)
    world = World(box, ours=tuple(n.run_dir for n in soak.nodes))
    soak.start()
    grow = []
    for turn in range(MOVES):
        soak.checkpoints(SECONDS / MOVES)
        if turn % 5 == 0:
            soak.keep()
        soak.move()
        if turn == 3:
            grow = [Growth(f"the peer at node {n.name}", p, 4 << 10) for n in soak.nodes for p in n.servers()]
        redis = Growth("Redis", soak.where().redis(), 16 << 10)
        if turn == 1:
            first = redis
        if turn > 1:
            check(redis.rss <= first.rss + first.slack, f"Redis grew from {first.rss} to {redis.rss} KiB")
            check(redis.fds <= first.fds + CLIENTS, f"Redis had {first.fds} descriptors, now {redis.fds}")
        soak.there().clean(f"turn {turn}")
        box.log(f"turn {turn}: {'; '.join(g.look(f'turn {turn}') for g in [*grow, redis])}")
    soak.stop()
    for node in soak.nodes:
        node.clean("at the end")
    world.clean("at the end", allowed=lambda kind, name: kind == "sockets" and "sock-" in name)
    box.log(f"{soak.dumps} checkpoints, {MOVES} migrations, {sum(one.acked for one in soak.load)} answers,"
            f" {sum(one.reconnects for one in soak.load)} connections made anew")


main(body)
