# SPDX-License-Identifier: GPL-2.0-only
"""A second node for migration tests: its own pid, mount and (when asked) network namespace, with
an init that reaps. Everything in it dies with it.

    node = Node(box, "b")                       # or Node(box, "b", net=True)
    peer = node.receive("--unix", path)         # waits until it listens
    box.run_ckpt("migrate", "-t", pid, "--to", f"unix:{path}")
    node.outer(pid)                             # the program there, as this namespace sees it
"""
import os
import re
import select
import signal
import socket
import struct
import threading

from sandbox import Failure, check, read, state

INIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
# What runs here by itself stays away from the numbers of programs that come, also of those that make thousands of
# threads a second.
with open('/proc/sys/kernel/pid_max') as f:
    far = max(20000, int(f.read()) // 2)
with open('/proc/sys/kernel/ns_last_pid', 'w') as f:
    f.write(str(far))
os.write(1, b'up\\n')
while True:
    signal.sigwaitinfo({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""


class Peer:
    """A running ckpt receive."""

    def __init__(self, node, proc, out, err):
        self.node, self.proc, self.out, self.err, self.where = node, proc, out, err, None

    def text(self):
        return read(self.out) + read(self.err)

    def wait_listening(self):
        def look():
            m = re.search(r'^(?:listening on |{"event":"listening","at":")([^"\s]+)', read(self.out), re.M)
            if not m and self.ended() is not None:
                raise Failure(f"ckpt receive ended: {self.text()}")
            return m
        self.where = self.node.box.wait(look, "ckpt receive listens").group(1)
        return self

    def ended(self):
        """Its wait status, or None."""
        self.node.box.reap()
        return self.node.box.status.get(self.proc.pid)

    def stop(self):
        if self.ended() is None:
            # nsenter waits for it.
            for child in read(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").split():
                os.kill(int(child), signal.SIGTERM)
            self.node.box.wait(lambda: self.ended() is not None, "ckpt receive ends")


class Node:
    def __init__(self, box, name, net=False, ipc=False):
        self.box, self.name, self.ipc = box, name, ipc
        self.run_dir = os.path.join(box.dir, f"run-{name}")
        os.mkdir(self.run_dir, 0o700)
        argv = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        argv += ["--net"] if net else []
        argv += ["--ipc"] if ipc else []
        out = os.path.join(box.dir, f"node-{name}.out")
        with open(out, "w") as f:
            self.proc = box.spawn(argv + ["/usr/bin/python3", "-c", INIT], f, f)
        self.proc.returncode = 0
        box.wait(lambda: read(out).startswith("up"), f"node {name} is up: {read(out)}")
        self.init = int(read(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").split()[0])
        self.count = 0

    def enter(self, argv):
        return ["nsenter", "-t", str(self.init), "-p", "-m", "-n", *(["-i"] if self.ipc else []), "--", *argv]

    def env(self, **more):
        return dict(os.environ, CKPT_RUN_DIR=self.run_dir, **more)

    def receive(self, *args, env=None, program=None):
        self.count += 1
        names = [os.path.join(self.box.dir, f"{self.name}{self.count}.{s}") for s in ("out", "err")]
        with open(names[0], "w") as out, open(names[1], "w") as err:
            p = self.box.spawn(self.enter([program or self.box.ckpt, "receive", *map(str, args)]),
                               out, err, env=self.env(**(env or {})))
        p.returncode = 0
        return Peer(self, p, *names).wait_listening()

    def outer(self, pid):
        """Process @pid of the node as we see it; 0 when there is none."""
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            m = re.search(r"^NSpid:\s*(.*)$", read(f"/proc/{entry}/status"), re.M)
            if not m:
                continue
            chain = m.group(1).split()
            if len(chain) > 1 and chain[-1] == str(pid) and self.inside(int(entry)):
                return int(entry)
        return 0

    def idle(self):
        """Only its init and a listening ckpt receive are there."""
        return sum(self.inside(int(e)) for e in os.listdir("/proc") if e.isdigit()) <= 2

    def inside(self, pid):
        try:
            return (os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.init}/ns/pid"))
        except OSError:
            return False

    def finish(self, target, what="the moved program"):
        """Go; the program verifies itself there."""
        pid = self.outer(target.pid)
        check(pid, f"{what} is not at node {self.name}{target.why()}")
        check(state(pid) not in ("T", "t", "Z"), f"{what} is in state {state(pid)} at node {self.name}")
        os.kill(pid, signal.SIGTERM)
        self.box.wait(lambda: os.path.exists(target.file("result")) or not self.outer(target.pid),
                      f"verdict of {target.name}{target.why()}")
        check(read(target.file("result")) == "pass\n", f"{target.name} gave no verdict{target.why()}")
        check(not os.path.exists(target.file("failures")), f"failures{target.why()}")

    def down(self):
        if self.proc.pid not in self.box.status:
            os.kill(self.init, signal.SIGKILL)
            self.box.wait(lambda: self.proc.pid in self.box.status, f"end of node {self.name}")


FRAMES = {name: i + 1 for i, name in enumerate(
    "hello error offer answer pages round records inventory restored run running done ask verdict space tree share alive same"
    .split())}


class Stream:
    """One direction of a plain connection: knows where frames begin (tools/migrate/wire.h)."""

    def __init__(self, cut):
        self.cut, self.moved, self.next, self.head = cut, 0, 0, b""

    def limit(self, data):
        """How much of @data is to be forwarded before the cut."""
        if isinstance(self.cut, tuple):
            self.find(data)
        if isinstance(self.cut, int):
            return max(0, self.cut - self.moved)
        return len(data)

    def find(self, data):
        """Frame starts in @data: { type, len, sum } then the payload."""
        at = self.moved
        while isinstance(self.cut, tuple):
            start = self.next - len(self.head)
            take = data[self.next - at:self.next - at + 8 - len(self.head)]
            self.head += take
            self.next += len(take)
            if len(self.head) < 8:
                return
            kind, length = struct.unpack("II", self.head)
            if kind == FRAMES[self.cut[0]]:
                self.cut = start + self.cut[1]
                return
            self.next, self.head = start + 16 + length, b""
            if self.next >= at + len(data):
                return


class Proxy:
    """Forwards TCP connections to a peer and cuts the first one: up or down after a number of
    bytes, or ("running", 8): eight bytes into a frame."""

    def __init__(self, where):
        host, port = where.rsplit(":", 1)
        self.to = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.reset()
        threading.Thread(target=self.accept, daemon=True).start()

    def reset(self, refuse=False, up=None, down=None):
        self.refuse = refuse    # no second connection gets through
        self.ways = {"up": Stream(up), "down": Stream(down)}
        self.connections = 0

    def accept(self):
        while True:
            con, _ = self.listener.accept()
            self.connections += 1
            if self.refuse and self.connections > 1:
                con.close()
                continue
            ways = self.ways if self.connections == 1 else {"up": Stream(None), "down": Stream(None)}
            threading.Thread(target=self.forward, args=(con, ways), daemon=True).start()

    def forward(self, con, ways):
        try:
            peer = socket.create_connection(self.to)
        except OSError:
            con.close()
            return
        pairs = {con: (peer, ways["up"]), peer: (con, ways["down"])}
        while pairs and 0 not in (ways["up"].cut, ways["down"].cut):
            for s in select.select(list(pairs), [], [])[0]:
                to, way = pairs[s]
                try:
                    data = s.recv(65536)
                    keep = way.limit(data)
                    to.sendall(data[:keep])
                except OSError:
                    data = b""
                if not data or keep < len(data) or way.moved + len(data) == way.cut:
                    pairs = {}
                    break
                way.moved += len(data)
        con.close()
        peer.close()
