# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300 needs=tool:redis-server
"""Redis with more than 200 MB of keys, under load: no acknowledged write is ever lost."""
import hashlib
import os
import socket
import threading
import time

from _app import Failure, can_connect, check, free_port, main, need_tool

KEYS = 210_000
SIZE = 1024
BATCH = 500


def value(i):
    return hashlib.shake_128(b"%d" % i).digest(SIZE)


def command(*parts):
    out = [b"*%d\r\n" % len(parts)]
    for p in parts:
        p = p if isinstance(p, bytes) else str(p).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(p), p))
    return b"".join(out)


class Redis:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.sock.makefile("rb")

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Failure(f"redis: {rest.decode()}")
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            data = self.file.read(int(rest) + 2)
            if len(data) != int(rest) + 2:
                raise ConnectionError("connection was closed")
            return data[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest

    def send(self, *parts):
        self.sock.sendall(command(*parts))

    def ask(self, *parts):
        self.send(*parts)
        return self.reply()

    def close(self):
        self.file.close()
        self.sock.close()


class Load(threading.Thread):
    """Counts in Redis as fast as it can and remembers what was acknowledged; reconnects."""

    def __init__(self, port, name):
        super().__init__(daemon=True)
        self.port, self.key = port, name
        self.acked, self.reconnects, self.error = 0, 0, None
        self.stopping = threading.Event()

    def run(self):
        client = None
        while not self.stopping.is_set():
            try:
                client = client or Redis(self.port)
                n = client.ask("INCR", self.key)
                # one more than acknowledged may have been done when the connection broke
                if n not in (self.acked + 1, self.acked + 2):
                    self.error = f"{self.key}: {n} after {self.acked} was acknowledged"
                    return
                self.acked = n
            except OSError:
                if client:
                    client.close()
                    self.reconnects += 1
                client = None
                time.sleep(0.02)
            except Failure as e:
                self.error = str(e)
                return
        if client:
            client.close()


def verify(port):
    client = Redis(port)
    for first in range(0, KEYS, BATCH):
        got = client.ask("MGET", *(f"key:{i}" for i in range(first, first + BATCH)))
        for i, data in enumerate(got, first):
            check(data == value(i), f"key:{i} has its value")
    size = client.ask("DBSIZE")
    check(size >= KEYS, f"{size} keys are there")
    client.close()


def body(app):
    server = need_tool("redis-server")
    port = free_port()
    app.start([server, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", app.dir,
               "--daemonize", "no"], "redis-server")
    app.ready(lambda: can_connect(("127.0.0.1", port)), "Redis answers")
    client = Redis(port)
    for first in range(0, KEYS, BATCH):
        client.sock.sendall(b"".join(command("SET", f"key:{i}", value(i))
                                     for i in range(first, first + BATCH)))
        for _ in range(BATCH):
            client.reply()
    used = int(next(l for l in client.ask("INFO", "memory").decode().splitlines()
                    if l.startswith("used_memory:")).split(":")[1])
    check(used > 200 << 20, f"{used >> 20} MiB are used")
    client.close()
    load = [Load(port, f"count{i}") for i in range(3)]
    for l in load:
        l.start()

    def progress(since):
        check(all(l.error is None for l in load), "; ".join(str(l.error) for l in load))
        return all(l.acked > s for l, s in zip(load, since))

    for turn in range(3):
        before = [l.acked + 100 for l in load]
        app.ready(lambda: progress(before), "the load goes on")
        app.move("--tcp", "close")
        before = [l.acked + 100 for l in load]
        app.ready(lambda: progress(before), f"the load goes on after restore {turn + 1}")
        verify(port)
    for l in load:
        l.stopping.set()
    for l in load:
        l.join(20)
        check(not l.is_alive(), "the load ends")
    client = Redis(port)
    for l in load:
        check(l.error is None, l.error)
        check(l.reconnects >= 3 or app.control, f"{l.key} reconnected {l.reconnects} times")
        n = int(client.ask("GET", l.key))
        check(n in (l.acked, l.acked + 1), f"{l.key} is {n}, {l.acked} were acknowledged")
    # the machinery inside goes on too: expiry is a timer, a snapshot is a fork
    client.ask("SET", "short", "x", "PX", "50")
    app.ready(lambda: client.ask("GET", "short") is None, "a key expires")
    client.ask("BGSAVE")
    app.ready(lambda: b"rdb_bgsave_in_progress:0" in client.ask("INFO", "persistence"), "BGSAVE ends", 60)
    check(b"rdb_last_bgsave_status:ok" in client.ask("INFO", "persistence"), "BGSAVE works")
    check(os.path.getsize(os.path.join(app.dir, "dump.rdb")) > 200 << 20, "the snapshot has the data")
    client.close()
    app.stop()


main(body)
