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
import signal
import subprocess

from sandbox import Failure, check, read, state

INIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
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
            m = re.search(r"^listening on (\S+)$", read(self.out), re.M)
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
            os.kill(self.proc.pid, signal.SIGTERM)
            self.node.box.wait(lambda: self.ended() is not None, "ckpt receive ends")


class Node:
    def __init__(self, box, name, net=False):
        self.box, self.name = box, name
        self.run_dir = os.path.join(box.dir, f"run-{name}")
        argv = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        argv += ["--net"] if net else []
        out = os.path.join(box.dir, f"node-{name}.out")
        with open(out, "w") as f:
            self.proc = box.spawn(argv + ["/usr/bin/python3", "-c", INIT], f, f)
        self.proc.returncode = 0
        box.wait(lambda: read(out).startswith("up"), f"node {name} is up: {read(out)}")
        self.init = int(read(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").split()[0])
        self.count = 0

    def enter(self, argv):
        return ["nsenter", "-t", str(self.init), "-p", "-m", "-n", "--", *argv]

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
