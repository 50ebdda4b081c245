# SPDX-License-Identifier: GPL-2.0-only
"""Two nodes and a client, each in a network namespace of its own, joined by a bridge.

    lan = Lan(box)                  # this process is node a now, lan.node is node b
    lan.add("10.9.0.7/24")          # an address of node a
    with lan.client(): ...          # the calling thread is the client; sockets made in it stay there
"""
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import threading

from node import Node
from sandbox import Skip, check, read

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
DEV = "eth0"


def sh(*argv):
    res = subprocess.run(argv, capture_output=True, text=True)
    check(res.returncode == 0, f"{' '.join(argv)}: {res.stderr.strip()}")
    return res.stdout


class Lan:
    def __init__(self, box):
        self.box = box
        check(LIBC.unshare(CLONE_NEWNET) == 0, "a network namespace for node a")
        self.node = Node(box, "b", net=True)
        out = os.path.join(box.dir, "client.out")
        with open(out, "w") as f:
            p = box.spawn(["unshare", "--net", "sh", "-c", "echo up; exec sleep 100000"], f, f)
        p.returncode = 0
        box.wait(lambda: read(out) == "up\n", "the client's network namespace")
        self.client_pid = p.pid
        self.here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.there = os.open(f"/proc/{p.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with self.client():
            if subprocess.run(["ip", "link", "add", "br0", "type", "bridge"], capture_output=True).returncode:
                raise Skip("the kernel has no bridge")
            for name in ("lo", "br0"):
                sh("ip", "link", "set", name, "up")
            for addr in ("10.9.0.100/24", "fd09::100/64"):
                sh("ip", "address", "add", addr, "dev", "br0", *(["nodad"] if ":" in addr else []))
        for n, enter in (("1", []), ("2", ["nsenter", "-t", str(self.node.init), "-n", "--"])):
            sh(*enter, "ip", "link", "add", DEV, "type", "veth", "peer", "name", f"port{n}", "netns", str(p.pid))
            with self.client():
                sh("ip", "link", "set", f"port{n}", "master", "br0", "up")
        for n, run in (("1", sh), ("2", self.at_b)):
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "set", DEV, "up")
            run("ip", "address", "add", f"10.9.0.{n}/24", "dev", DEV)
            run("ip", "address", "add", f"fd09::{n}/64", "dev", DEV, "nodad")

    def at_b(self, *argv):
        return sh(*self.node.enter(argv))

    def add(self, address):
        sh("ip", "address", "add", address, "dev", DEV, *(["nodad"] if ":" in address else []))
        # Nobody announces it, and another node may have had it before.
        with self.client():
            sh("ip", "neigh", "flush", "dev", "br0")

    @contextlib.contextmanager
    def client(self):
        check(LIBC.setns(self.there, CLONE_NEWNET) == 0, "enter the client's network namespace")
        try:
            yield
        finally:
            check(LIBC.setns(self.here, CLONE_NEWNET) == 0, "come back")

    def connect(self, host, port):
        def attempt():
            with self.client():
                try:
                    return socket.create_connection((host, port), timeout=60)
                except OSError:
                    return None
        return self.box.wait(attempt, f"{host}:{port} answers")

    def owners(self, address):
        """Which nodes have it: "a", "b"."""
        out = []
        for name, run in (("a", sh), ("b", self.at_b)):
            for dev in json.loads(run("ip", "-json", "address")):
                out += [name for i in dev.get("addr_info", []) if i.get("local") == address.split("/")[0]]
        return "".join(out)

    def tables(self):
        return sh("nft", "list", "tables") + self.at_b("nft", "list", "tables")


class Asker(threading.Thread):
    """Holds one connection and asks without end; ask(sock, n) checks one answer. The longest answer
    is the pause that a peer saw."""

    def __init__(self, sock, ask, name="client"):
        super().__init__(daemon=True)
        self.sock, self.ask, self.name = sock, ask, name
        self.count, self.longest, self.error = 0, 0.0, None
        self.stopping = threading.Event()
        self.start()

    def run(self):
        import time
        try:
            while not self.stopping.is_set():
                begin = time.monotonic()
                self.ask(self.sock, self.count)
                self.longest = max(self.longest, time.monotonic() - begin)
                self.count += 1
        except Exception as e:      # whatever it is, the test must hear of it
            self.error = f"{type(e).__name__}: {e}"

    def goes_on(self, box, what, more=5):
        before = self.count
        box.wait(lambda: self.error or self.count >= before + more, f"{what}: {self.name} is answered")
        check(not self.error, f"{what}: {self.name} after {self.count} answers: {self.error}")

    def stop(self):
        self.stopping.set()
        self.join(60)
        check(not self.is_alive() and not self.error, f"{self.name}: {self.error or 'does not end'}")
