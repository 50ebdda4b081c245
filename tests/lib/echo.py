# SPDX-License-Identifier: GPL-2.0-only
"""A program that gives back what it hears, one connection after the other, and what a client asks it."""
import os

from sandbox import Target, read

SERVER = """
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
l = socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
print(l.getsockname()[1], flush=True)
for _ in range(count):
    c, _ = l.accept()
    while True:
        d = c.recv(65536)
        if not d:
            break
        c.sendall(d)
    c.shutdown(socket.SHUT_WR)
    c.recv(1)
    c.close()
"""


def start(box, name, host, port=0, count=1):
    """It listens: (the program, its port)."""
    out = os.path.join(box.dir, f"server-{name}")
    with open(out, "w") as f:
        p = box.spawn(["/usr/bin/python3", "-c", SERVER, host, str(port), str(count)], f, f)
    p.returncode = 0
    box.wait(lambda: read(out).endswith("\n"), f"the server listens: {read(out)}")
    return Target(box, p.pid, box.dir, "server"), int(read(out).split()[0])


def exactly(sock, n):
    out = b""
    while len(out) < n:
        data = sock.recv(n - len(out))
        if not data:
            raise ConnectionError(f"ended after {len(out)} of {n} bytes")
        out += data
    return out


def ask(sock, n):
    """One answer, for lan.Asker."""
    text = b"%16d" % n
    sock.sendall(text)
    got = exactly(sock, 16)
    if got != text:
        raise ValueError(f"{got} for {text}")
