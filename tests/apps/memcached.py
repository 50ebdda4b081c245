# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180 needs=tool:memcached
"""memcached with threads, as another user: items, counters and expiry live on."""
import hashlib
import socket

from _app import can_connect, check, free_port, main, need_tool

ITEMS = 20_000


def value(i):
    return hashlib.shake_128(b"mc%d" % i).digest(300 + i % 700)


class Memcache:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.sock.makefile("rwb")

    def line(self, text):
        self.file.write(text.encode() + b"\r\n")
        self.file.flush()
        return self.file.readline().rstrip(b"\r\n").decode()

    def set(self, key, data, ttl=0):
        self.file.write(b"set %s 0 %d %d\r\n%s\r\n" % (key.encode(), ttl, len(data), data))
        self.file.flush()
        return self.file.readline() == b"STORED\r\n"

    def get(self, *keys):
        self.file.write(b"get " + " ".join(keys).encode() + b"\r\n")
        self.file.flush()
        out = {}
        while True:
            head = self.file.readline().split()
            if head[0] == b"END":
                return out
            out[head[1].decode()] = self.file.read(int(head[3]) + 2)[:-2]

    def close(self):
        self.file.close()
        self.sock.close()


def body(app):
    port = free_port()
    app.start([need_tool("memcached"), "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-U", "0",
               "-t", "4", "-m", "64"], "memcached")
    app.ready(lambda: can_connect(("127.0.0.1", port)), "memcached answers")
    mc = Memcache(port)
    for i in range(ITEMS):
        check(mc.set(f"k{i}", value(i)), f"k{i} is stored")
    check(mc.set("count", b"0"), "a counter is stored")
    mc.close()

    def verify(when, count):
        mc = Memcache(port)
        for first in range(0, ITEMS, 100):
            got = mc.get(*(f"k{i}" for i in range(first, first + 100)))
            for i in range(first, first + 100):
                check(got.get(f"k{i}") == value(i), f"k{i} is right {when}")
        check(mc.line("incr count 1") == str(count), f"the counter goes on {when}")
        check(mc.set("short", b"x", 1), "an item with an end is stored")
        app.ready(lambda: not mc.get("short"), f"it expires {when}: the clock goes on")
        mc.close()
        # one connection for each thread
        many = [Memcache(port) for _ in range(12)]
        for n, m in enumerate(many):
            check(m.get(f"k{n}") == {f"k{n}": value(n)}, f"connection {n} works {when}")
        for m in many:
            m.close()

    verify("at the start", 1)
    app.copy("--tcp", "close")
    verify("after a copy", 2)
    held = Memcache(port)
    for turn in range(3):
        app.move("--tcp", "close")
        verify(f"after restore {turn + 1}", turn + 3)
        held.close()
        held = Memcache(port)
        check(held.get("k1") == {"k1": value(1)}, "a connection that stays open until the next dump")
    held.close()
    app.stop()


main(body)
