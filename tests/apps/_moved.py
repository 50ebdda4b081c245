# SPDX-License-Identifier: GPL-2.0-only
"""A server moves from node a to node b with its address, while clients on a third node hold their connections and
check every answer."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from lan import Asker, Lan  # noqa: E402
from sandbox import Target, alive, check, main, read  # noqa: E402

# With what the scripts beside this one need of it.
__all__ = ("main",)
ADDRESS = "10.9.0.7"
PORT = 7001
FILES = threading.local()       # of each client thread: its socket, as a file


def line(sock, text):
    """Send @text; the line that comes back."""
    if getattr(FILES, "sock", None) is not sock:
        FILES.sock, FILES.file = sock, sock.makefile("rb")
    sock.sendall(text)
    return FILES.file.readline()


class Moved:
    def __init__(self, box):
        self.box, self.dir, self.lan = box, box.dir, Lan(box)
        self.lan.add(f"{ADDRESS}/24")

    def start(self, argv):
        out = os.path.join(self.dir, "server.log")
        with open(out, "w") as f:
            p = self.box.spawn(argv, f, f, cwd=self.dir)
        p.returncode = 0
        self.target = Target(self.box, p.pid, self.dir, argv[0])
        self.log = out

    def connect(self):
        check(alive(self.target.pid) or self.lan.node.outer(self.target.pid), f"the server ended: {read(self.log)}")
        sock = self.lan.connect(ADDRESS, PORT)
        sock.settimeout(60)
        return sock

    def move(self, ask, clients=4):
        """@ask(sock, n) asks and checks the answer."""
        held = [Asker(self.connect(), ask, f"client {i}") for i in range(clients)]
        for c in held:
            c.goes_on(self.box, "before", 50)
        peer = self.lan.node.receive("--listen", "10.9.0.2:0", "--insecure")
        res = self.box.run_ckpt("migrate", "-t", self.target.pid, "--to", peer.where, "--insecure", "--tcp", "keep",
                                "--move-address", f"{ADDRESS}/24", env=self.lan.node.env())
        check(res.code == 0, f"{res}")
        for c in held:
            c.goes_on(self.box, "moved", 50)
        check(not alive(self.target.pid) and self.lan.owners(ADDRESS) == "b", "it is at node b only")
        check(self.lan.tables() == "", f"a lock is left: {self.lan.tables()}")
        fresh = Asker(self.connect(), ask, "a new client")
        fresh.goes_on(self.box, "moved", 50)
        for c in (*held, fresh):
            c.stop()
        self.box.log(f"{sum(c.count for c in held)} answers; the longest took "
                     f"{max(c.longest for c in held) * 1000:.0f} ms")
        os.kill(self.lan.node.outer(self.target.pid), 9)


__all__ = ["ADDRESS", "PORT", "Moved", "check", "main"]
