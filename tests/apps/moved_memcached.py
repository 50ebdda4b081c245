# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120 needs=tool:memcached,tool:nft,tool:ip
"""memcached with four threads moves to another node with its connections; every client counts and reads."""
import threading

from _moved import ADDRESS, FILES, PORT, Moved, check, line, main

def ask(sock, n):
    key = b"c%d" % threading.get_ident()
    if not n:
        check(line(sock, b"set %s 0 0 1\r\n0\r\n" % key) == b"STORED\r\n", "a counter is stored")
    check(line(sock, b"incr %s 1\r\n" % key) == b"%d\r\n" % (n + 1), f"count {n + 1}")
    i = n % 500
    check(line(sock, b"get k%d\r\n" % i) == b"VALUE k%d 0 900\r\n" % i, f"k{i}")
    check(FILES.file.read(907) == b"%900d\r\nEND\r\n" % i, f"the value of k{i}")


def body(box):
    m = Moved(box)
    m.start(["memcached", "-u", "nobody", "-l", ADDRESS, "-p", str(PORT), "-U", "0", "-t", "4", "-m", "64"])
    sock = m.connect()
    for i in range(500):
        check(line(sock, b"set k%d 0 0 900\r\n%900d\r\n" % (i, i)) == b"STORED\r\n", "stored")
    m.move(ask)
    sock.close()


main(body)
