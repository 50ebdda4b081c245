# SPDX-License-Identifier: GPL-2.0-only
"""Redis with a client in another network namespace that holds its connection: it asks while nobody is there, a new
client knocks at the port meanwhile, and both are answered after the restore. Twice in a row."""
import ctypes
import os
import shutil
import socket
import subprocess

from sandbox import Skip, Target, check, main, read

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def body(box):
    if not shutil.which("redis-server"):
        raise Skip("redis-server")
    spaces = []
    for _ in range(2):
        check(not LIBC.unshare(CLONE_NEWNET), "cannot make a network namespace")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        spaces.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    out = os.path.join(box.dir, "holder")
    with open(out, "w") as f:
        holder = box.spawn(["sh", "-c", "echo up; exec sleep 600"], f, f)
    holder.returncode = 0
    box.wait(lambda: read(out) == "up\n", "the client's namespace is held")

    def in_server(fn):
        LIBC.setns(spaces[0], CLONE_NEWNET)
        try:
            return fn()
        finally:
            LIBC.setns(spaces[1], CLONE_NEWNET)

    def sh(text):
        subprocess.run(text, shell=True, check=True)

    in_server(lambda: sh(f"ip link add va type veth peer name vb && ip link set vb netns {holder.pid} &&"
                         "ip addr add 10.9.0.1/24 dev va && ip link set va up"))
    sh("ip addr add 10.9.0.2/24 dev vb && ip link set vb up")

    def start():
        with open(os.path.join(box.dir, "log"), "w") as log:
            return box.spawn(["redis-server", "--port", "7001", "--bind", "10.9.0.1", "--save", "",
                              "--protected-mode", "no", "--dir", box.dir], log, log)
    p = in_server(start)
    p.returncode = 0
    target = Target(box, p.pid, box.dir, "redis")

    def connected():
        try:
            return socket.create_connection(("10.9.0.1", 7001), timeout=20)
        except OSError:
            return None
    held = box.wait(connected, "redis listens")
    lines = held.makefile("rb")
    held.sendall(b"SET k 1\r\n")
    check(lines.readline() == b"+OK\r\n", "SET")
    for i in range(2):
        image = f"{box.image}{i}"
        in_server(lambda: box.dump(target, "--tcp", "keep", "--kill", image=image))
        held.sendall(b"INCR k\r\n")
        knock = socket.socket()
        knock.setblocking(False)
        knock.connect_ex(("10.9.0.1", 7001))
        in_server(lambda: box.restore(image=image))
        check(lines.readline() == b":%d\r\n" % (i + 2), "the held connection's answer")
        knock.settimeout(20)
        box.wait(lambda: knock.connect_ex(("10.9.0.1", 7001)) in (0, 106), "the new client is let in")
        knock.sendall(b"PING\r\n")
        check(knock.recv(100) == b"+PONG\r\n", "the new client's answer")
        knock.close()
    left = in_server(lambda: subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True))
    check(not left.stdout, f"a lock is left: {left.stdout}")


main(body)
