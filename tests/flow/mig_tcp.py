#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240 needs=tool:nft,tool:ip
"""migrate --tcp keep: connections and their address move to another node on the same network. Clients on a third
one hold theirs, over IPv4 and IPv6, full both ways, half-closed, not accepted yet: they see a pause and no wrong byte. Scripts run at
their points, and what fails before the decision leaves all of it where it was."""
import os
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from echo import ask, exactly  # noqa: E402
from lan import Asker, Lan  # noqa: E402
from sandbox import Target, alive, check, main, read  # noqa: E402

SERVER = """
import asyncio, os, signal, socket, sys
loop = asyncio.new_event_loop()
lazy = [socket.create_server((host, 7001), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
        for host in sys.argv[1:]]
async def serve(reader, writer):
    size = 0
    while True:
        data = await reader.read(65536)
        if not data:
            break
        size += len(data)
        if data != b'quiet':
            writer.write(data)
            await writer.drain()
        else:
            size = 4 << 20
    # the client has ended its half: the rest, slowly
    if size == 4 << 20:
        for i in range(256):
            writer.write(bytes([i]) * 4096)
            await writer.drain()
            await asyncio.sleep(0.01)
    writer.close()
def late():
    for l in lazy:
        c, _ = l.accept()
        c.sendall(b'late ' + c.recv(100))
async def main():
    servers = [await asyncio.start_server(serve, host, 7000) for host in sys.argv[1:]]
    loop.add_signal_handler(signal.SIGUSR1, late)
    print('up', flush=True)
    await asyncio.Event().wait()
loop.run_until_complete(main())
"""
MOVED = ("10.9.0.7/24", "fd09::7/64")
ARGS = sum((["--move-address", a] for a in MOVED), ["--tcp", "keep"])
BULK = 24 << 20
KILLER = """#!/bin/sh
[ "$1" = enter ] || exit 0
ckpt=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$PPID/status)
kill -9 "$ckpt" "$PPID"
"""
HOOK = """#!/bin/sh
echo "$CKPT_SIDE $1 $CKPT_ADDRESSES" >> {log}
[ "$1" != "{fails}" ]
"""


class Bulk:
    """24 MiB through the program with full queues: the reader waits for permission."""

    def __init__(self, sock):
        self.sock, self.error, self.got = sock, None, 0
        self.threads = [threading.Thread(target=self.run, args=(f,), daemon=True) for f in (self.send, self.read)]
        self.go = threading.Event()
        for t in self.threads:
            t.start()

    def run(self, fn):
        try:
            fn()
        except Exception as e:
            self.error = self.error or f"{type(e).__name__}: {e}"

    def send(self):
        block = bytes(range(256)) * 4096
        for _ in range(BULK // len(block)):
            self.sock.sendall(block)

    def read(self):
        want = bytes(range(256)) * 512
        while self.got < BULK:
            if self.got >= 4 << 20:
                self.go.wait(60)
            data = self.sock.recv(100000)
            first = self.got % 256
            if not data or data != want[first:first + len(data)]:
                raise ValueError(f"wrong bytes behind {self.got}")
            self.got += len(data)

    def finish(self):
        self.go.set()
        for t in self.threads:
            t.join(60)
        check(not self.error and self.got == BULK, f"bulk: {self.got} of {BULK}: {self.error}")
        self.sock.close()


def half_closed(lan, host):
    sock = lan.connect(host, 7000)
    sock.sendall(b"quiet")
    sock.shutdown(socket.SHUT_WR)
    check(exactly(sock, 4096) == bytes(4096), "the first block of a half-closed connection")
    return sock


def half_closed_finish(sock):
    for i in range(1, 256):
        check(exactly(sock, 4096) == bytes([i]) * 4096, f"block {i} of a half-closed connection")
    check(sock.recv(1) == b"", "its end")
    sock.close()


def start(box, *hosts):
    out = os.path.join(box.dir, f"server-{hosts[0]}")
    with open(out, "w") as f:
        p = box.spawn(["/usr/bin/python3", "-c", SERVER, *hosts], f, f)
    p.returncode = 0
    box.wait(lambda: read(out).startswith("up"), f"the server listens: {read(out)}")
    return Target(box, p.pid, box.dir, "server")


def hook(box, name, fails="never"):
    path, log = os.path.join(box.dir, name), os.path.join(box.dir, f"{name}.log")
    with open(path, "w") as f:
        f.write(HOOK.format(log=log, fails=fails))
    os.chmod(path, 0o755)
    return path, log


def said(log):
    return [l.split()[1] for l in read(log).splitlines()]


def here(box, lan, target, what):
    check(alive(target.pid) and not lan.node.outer(target.pid), f"{what}: it runs here and nowhere else")
    for a in MOVED:
        check(lan.owners(a) == "a", f"{what}: {a} is at node {lan.owners(a)!r}")
    check(lan.tables() == "", f"{what}: a lock is left: {lan.tables()}")


def refusals(box, lan, target, clients):
    """Before the decision everything can be called off."""
    sock = os.path.join(box.dir, "sock")
    cases = (("source", "prepare", "never", ["prepare", "back"], ["prepare", "drop"]),
             ("source", "leave", "never", ["prepare", "leave", "back"], ["prepare", "ready", "drop"]),
             ("peer", "never", "prepare", [], ["prepare", "drop"]),
             ("peer", "never", "ready", ["prepare", "back"], ["prepare", "ready", "drop"]))
    for n, (who, mine, theirs, at_source, at_peer) in enumerate(cases):
        what = f"hook of the {who} fails at {mine if who == 'source' else theirs}"
        a, a_log = hook(box, f"a{n}", mine)
        b, b_log = hook(box, f"b{n}", theirs)
        peer = lan.node.receive("--unix", sock, "--hook", b)
        res = box.run_ckpt("migrate", "-t", target.pid, "--to", f"unix:{sock}", *ARGS, "--hook", a,
                           env=lan.node.env())
        check(res.code == 1 and "E-HOOK" in res.err, f"{what}: {res}")
        for c in clients:
            c.goes_on(box, what)
        here(box, lan, target, what)
        check(said(a_log) == at_source, f"{what}: the source's was called at {said(a_log)}")
        box.wait(lambda: said(b_log) == at_peer, f"{what}: the peer's was called at {said(b_log)}")
        peer.stop()


def blocked(box, lan, target):
    """All of this is known before anything is copied."""
    sock = os.path.join(box.dir, "sock")
    peer = lan.node.receive("--unix", sock)
    to = ["migrate", "-t", target.pid, "--to", f"unix:{sock}", "--tcp", "keep", "--check"]

    def refused(text, *args):
        res = box.run_ckpt(*to, *args, env=lan.node.env())
        check(res.code == 3 and text in res.err, f"{args}: {text} expected: {res}")
    refused("listens on 10.9.0.7:7000, which is no address of this node")
    refused("no device here has the address 10.9.0.9/24", "--move-address", "10.9.0.9/24")
    refused("there is no device wlan7", "--move-address", "10.9.0.7/24@wlan7", "--move-address", MOVED[1])
    lan.at_b("ip", "address", "add", "10.9.0.7/32", "dev", "lo")
    refused("lo has the address 10.9.0.7/24 already", "--move-address", MOVED[0], "--move-address", MOVED[1])
    lan.at_b("ip", "address", "del", "10.9.0.7/32", "dev", "lo")
    res = box.run_ckpt(*to, *ARGS, env=lan.node.env())
    check(res.code == 0, f"nothing stops it: {res}")
    peer.stop()
    peer = lan.node.receive("--listen", "10.9.0.2:0", "--insecure")
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, "--insecure", "--tcp", "refuse",
                       "--move-address", "10.9.0.1/24", "--check", env=lan.node.env())
    check(res.code == 3 and "link to the peer" in res.err and "secondaries" in res.err, f"the link's address: {res}")
    peer.stop()


def both_killed(box, lan):
    """Nobody is left to bring the connections back: they are reset, but the program and its address arrive."""
    lan.add("10.9.0.8/24")
    target = start(box, "10.9.0.8")
    client = Asker(lan.connect("10.9.0.8", 7000), ask)
    client.goes_on(box, "before")
    path = os.path.join(box.dir, "killer")
    with open(path, "w") as f:
        f.write(KILLER)
    os.chmod(path, 0o755)
    peer = lan.node.receive("--unix", os.path.join(box.dir, "sock"), "--hook", path)
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", f"unix:{box.dir}/sock", "--tcp", "keep",
                       "--move-address", "10.9.0.8/24", env=lan.node.env())
    check(res.code == 0, f"both killed: {res}")
    box.wait(lambda: client.error, "the client hears that its connection is over")
    check("ConnectionReset" in client.error, f"it is reset: {client.error}")
    there = lan.node.outer(target.pid)
    check(there and not alive(target.pid) and lan.owners("10.9.0.8") == "b", "the program and its address are there")
    check(lan.tables() == "", f"a lock is left: {lan.tables()}")
    fresh = Asker(lan.connect("10.9.0.8", 7000), ask, "a new client")
    fresh.goes_on(box, "both killed")
    fresh.stop()
    os.kill(there, signal.SIGKILL)
    peer.stop()


def body(box):
    lan = Lan(box)
    for a in MOVED:
        lan.add(a)
    hosts = [a.split("/")[0] for a in MOVED]
    target = start(box, *hosts)
    askers = [Asker(lan.connect(h, 7000), ask, f"client of {h}") for h in hosts]
    waiting = [lan.connect(h, 7001) for h in hosts]
    for w in waiting:
        w.sendall(b'or never')
    blocked(box, lan, target)
    refusals(box, lan, target, askers)
    bulks = [Bulk(lan.connect(h, 7000)) for h in hosts]
    halves = [half_closed(lan, h) for h in hosts]
    box.wait(lambda: all(b.got >= 4 << 20 for b in bulks), "bulk data flows")
    a, a_log = hook(box, "a")
    b, b_log = hook(box, "b")
    peer = lan.node.receive("--listen", "10.9.0.2:0", "--insecure", "--hook", b)
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, "--insecure", *ARGS, "--hook", a,
                       env=lan.node.env())
    check(res.code == 0, f"{res}")
    for c in askers:
        c.goes_on(box, "moved")
    for x in bulks:
        x.finish()
    for h in halves:
        half_closed_finish(h)
    os.kill(lan.node.outer(target.pid), signal.SIGUSR1)
    for w in waiting:
        check(exactly(w, 13) == b"late or never", "a connection is accepted where the program is now")
        w.close()
    box.log("the longest answers: " + ", ".join(f"{c.longest * 1000:.0f} ms" for c in askers))
    check(not alive(target.pid) and lan.node.outer(target.pid), "it runs there and not here")
    for addr in MOVED:
        check(lan.owners(addr) == "b", f"{addr} is at {lan.owners(addr)!r}")
    check(lan.tables() == "", f"a lock is left: {lan.tables()}")
    check(said(a_log) == ["prepare", "leave", "left"], f"the source's script: {read(a_log)}")
    check(said(b_log) == ["prepare", "ready", "enter"], f"the peer's script: {read(b_log)}")
    check(all("10.9.0.7/24@eth0 fd09::7/64@eth0" in l for l in read(b_log).splitlines()), read(b_log))
    fresh = Asker(lan.connect(hosts[0], 7000), ask, "a new client")
    fresh.goes_on(box, "moved")
    for c in (*askers, fresh):
        c.stop()
    os.kill(lan.node.outer(target.pid), signal.SIGKILL)
    peer.stop()
    both_killed(box, lan)


main(body)
