# SPDX-License-Identifier: GPL-2.0-only
"""What the application tests share: a network of their own, starting and checkpointing a program.

A script calls main(body); body gets an App. The program under test and ckpt run in a network
namespace of the test's own, so ports are always free. With APP_CONTROL=1 nothing is dumped or
restored: the program and its test alone have to pass.
"""
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import struct
import sys

import sandbox
from sandbox import Failure, Skip, Target, check, read

# With what the scripts beside this one need of it.
__all__ = ("Failure", "check", "read")
HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
PR_SET_CHILD_SUBREAPER = 36


def own_network():
    """Start this script again in a network namespace of its own, with loopback up."""
    if os.environ.get("APP_NETNS") != "1":
        os.environ["APP_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--", PYTHON, "-B", os.path.abspath(sys.argv[0])])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)      # IFF_UP | IFF_RUNNING
        fcntl.ioctl(s, 0x8914, request)                          # SIOCSIFFLAGS


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def need_tool(name):
    path = shutil.which(name)
    if not path:
        raise Skip(f"the program {name}")
    return path


class App:
    """One program under test and how it is dumped and restored."""

    def __init__(self, box):
        self.box = box
        self.dir = box.dir
        self.target = None
        self.rounds = 0
        self.control = os.environ.get("APP_CONTROL") == "1"

    def start(self, argv, name, cwd=None, env=None):
        """Start the program in its own session; its output goes to the file "log"."""
        path = os.path.join(self.dir, "log")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        base = {"PATH": os.environ["PATH"], "HOME": self.dir, "LC_ALL": "C.UTF-8"}
        try:
            p = self.box.spawn(argv, fd, fd, cwd=cwd or self.dir, env={**base, **(env or {})})
        finally:
            os.close(fd)
        p.returncode = 0        # reaped by the box
        self.target = Target(self.box, p.pid, self.dir, name)
        self.box.log(f"started {' '.join(argv)} as pid {p.pid}")
        return self.target

    def ready(self, cond, what, timeout=30):
        def alive_and_ready():
            check(sandbox.alive(self.target.pid), f"{self.target.name} ended: {self.target.why()}")
            return cond()
        return self.box.wait(alive_and_ready, what, timeout, step=0.02)

    def copy(self, *args):
        """A dump that leaves the program running."""
        if self.control:
            return
        image = os.path.join(self.dir, f"image-copy{self.rounds}")
        self.box.dump(self.target, *args, image=image)
        shutil.rmtree(image)

    def move(self, *args, between=None):
        """Dump and kill, then restore from the image alone."""
        if self.control:
            return
        image = os.path.join(self.dir, f"image{self.rounds}")
        self.rounds += 1
        self.box.dump(self.target, "--kill", *args, image=image)
        if between:
            between()
        self.box.restore(image=image)
        check(sandbox.alive(self.target.pid), f"{self.target.name} is there after a restore")
        shutil.rmtree(image)

    def stop(self, sig=signal.SIGTERM, expect=0):
        """End the program and see that it ends as it should."""
        os.kill(self.target.pid, sig)
        status = self.box.wait_pid(self.target.pid, f"end of {self.target.name}")
        if expect is not None:
            check(os.waitstatus_to_exitcode(status) == expect,
                  f"{self.target.name} ended with {status:#x}{self.target.why()}")


class Line:
    """A connection that speaks lines; gone after the other end was killed."""

    def __init__(self, address, timeout=20):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        try:
            self.sock.settimeout(timeout)
            self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise
        self.file = self.sock.makefile("rwb")

    def ask(self, text):
        self.file.write(text.encode() + b"\n")
        self.file.flush()
        answer = self.file.readline()
        if not answer:
            raise ConnectionError("connection was closed")
        return answer.decode().rstrip("\n")

    def close(self):
        try:
            self.file.close()
        except OSError:
            pass
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Chains:
    """Hashes that a program makes of each other for ever, counted; here they are made again."""

    def __init__(self, n):
        self.made = [(0, hashlib.sha256(b"%d" % i).digest()) for i in range(n)]

    def verify(self, app, line, when):
        """What @line tells of each is right, and each goes on."""
        for i, (before, digest) in enumerate(self.made):
            count, told = line.ask(f"chain {i}").split()
            check(int(count) >= before, f"chain {i} does not go back {when}")
            for _ in range(before, int(count)):
                digest = hashlib.sha256(digest).digest()
            check(digest.hex() == told, f"chain {i} is right {when}")
            self.made[i] = (int(count), digest)
            app.ready(lambda i=i, before=before: int(line.ask(f"chain {i}").split()[0]) > before + 200,
                      f"chain {i} goes on {when}")


def data_hash():
    """Of 20,000 values that a program keeps, to be gone on with."""
    h = hashlib.sha256()
    for i in range(20000):
        h.update(hashlib.sha256(b"data%d" % i).digest())
    return h


def can_connect(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as s:
        s.settimeout(5)
        try:
            s.connect(address)
            return True
        except OSError:
            return False


def main(body, network=True):
    if network:
        own_network()
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("cannot become a subreaper")
    sandbox.main(lambda box: body(App(box)))
