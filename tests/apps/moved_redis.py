# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120 needs=tool:redis-server,tool:nft,tool:ip
"""Redis moves to another node with its connections: every client counts, and no count is lost or done twice."""
import hashlib
import threading

from _moved import ADDRESS, FILES, PORT, Moved, check, line, main

def ask(sock, n):
    key = f"c{threading.get_ident()}"
    check(line(sock, b"INCR %s\r\n" % key.encode()) == b":%d\r\n" % (n + 1), f"count {n + 1} of {key}")
    i = n % 2000
    value = hashlib.sha256(b"%d" % i).hexdigest().encode()
    check(line(sock, b"GET k%d\r\n" % i) == b"$64\r\n", f"k{i}")
    check(FILES.file.readline() == value + b"\r\n", f"the value of k{i}")


def body(box):
    m = Moved(box)
    m.start(["redis-server", "--port", str(PORT), "--bind", ADDRESS, "--save", "", "--protected-mode", "no"])
    sock = m.connect()
    for i in range(2000):
        check(line(sock, b"SET k%d %s\r\n" % (i, hashlib.sha256(b"%d" % i).hexdigest().encode())) == b"+OK\r\n", "SET")
    m.move(ask)
    sock.close()


main(body)
