# SPDX-License-Identifier: GPL-2.0-only
"""1,000 connections with both ends in the image, each with unread data and half of them half-closed, and one that
is on its way through a socket: neither end notices a dump that ends the program and its restore, twice in a row."""
import os

import ownnet
from ownnet import tables
from sandbox import Target, alive, check, main, read

PROGRAM = """
import os, resource, signal, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
l = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
pairs = []
for i in range(1000):
    a = socket.create_connection((('127.0.0.1', '::1')[i % 2], l.getsockname()[1]))
    b, _ = l.accept()
    if i % 3 == 0:
        a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if i % 7 == 0:
        b.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    a.sendall(b'%d from a' % i * 50)
    b.sendall(b'%d from b' % i * 50)
    if i % 4 == 1:
        a.shutdown(socket.SHUT_WR)
    if i % 4 == 2:
        b.shutdown(socket.SHUT_WR)
    if i % 4 == 3:
        os.dup(a.fileno())
    pairs.append((a, b))
# One that nobody has: it is on its way to whoever asks for it.
u, v = socket.socketpair()
a = socket.create_connection(('127.0.0.1', l.getsockname()[1]))
sender, _ = l.accept()
socket.send_fds(u, [b'x'], [a.fileno()])
a.close()
with open(sys.argv[1] + '/port', 'w') as f:
    f.write(str(l.getsockname()[1]))
open(sys.argv[1] + '/ready', 'w').close()
signal.sigwait({signal.SIGTERM})

def take(s, n):
    data = b''
    while len(data) < n:
        part = s.recv(n - len(data))
        assert part, 'the end after %r' % data
        data += part
    return data

for i, (a, b) in enumerate(pairs):
    a.settimeout(20)
    b.settimeout(20)
    assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == (i % 3 == 0)
    if i % 7 == 0:
        b.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    for me, other, name, shut in ((a, b, b'b', 2), (b, a, b'a', 1)):
        want = b'%d from %s' % (i, name) * 50
        assert take(me, len(want)) == want, i
        if i % 4 == shut:
            assert me.recv(1) == b'', i
        else:
            other.sendall(b'more')
            assert take(me, 4) == b'more', i
    a.close()
    b.close()
a = socket.socket(fileno=socket.recv_fds(v, 1, 1)[1][0])
sender.sendall(b'in flight')
assert take(a, 9) == b'in flight'
open(sys.argv[1] + '/result', 'w').write('pass')
"""


def body(box):
    ownnet.enter()
    with open(os.path.join(box.dir, "log"), "w") as log:
        p = box.spawn(["/usr/bin/python3", "-c", PROGRAM, box.dir], log, log)
    p.returncode = 0
    target = Target(box, p.pid, box.dir, "program")
    box.wait(lambda: os.path.exists(target.file("ready")), "1,000 connections")
    for i in "12":
        box.dump(target, "--tcp", "keep", "--kill", image=box.image + i)
        box.restore(image=box.image + i)
    os.kill(target.pid, 15)
    box.wait(lambda: not alive(target.pid), f"the verdict: {read(target.file('log'))}")
    check(read(target.file("result")) == "pass", read(target.file("log")))
    check(tables() == "", f"a lock is left: {tables()}")


main(body)
