# SPDX-License-Identifier: GPL-2.0-only
"""dump --tcp keep --kill: connections that nobody has accepted yet wait in the backlog again after the restore, in
their order, with what their peers have sent; when the dump fails, or ckpt is killed, they are back in the program's.
A handshake that is under way comes to its end."""
import os
import socket
import struct
import subprocess

import ownnet
from ownnet import backlogs, tables
from sandbox import BUILD, Target, alive, check, main, read

SERVER = """
import os, signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
v4 = socket.create_server(('127.0.0.1', 0), backlog=64)
both = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
inner = socket.create_connection(v4.getsockname())      # both ends are in the tree
inner.sendall(b'inner')
with open(sys.argv[1] + '/new', 'w') as f:
    f.write('%d %d' % (v4.getsockname()[1], both.getsockname()[1]))
os.rename(sys.argv[1] + '/new', sys.argv[1] + '/ports')
signal.sigwait({signal.SIGTERM})
def take(c):
    data = b''
    while not data.endswith(b'.'):
        part = c.recv(65536)
        assert part, data[-20:]
        data += part
    return data
c, _ = v4.accept()
assert c.recv(100) == b'inner'
c.sendall(b'hello')
assert inner.recv(100) == b'hello'
kept = [c]
for l in (v4, both):
    l.settimeout(1)
    try:
        while True:
            c, _ = l.accept()
            kept.append(c)
            c.settimeout(30)
            try:
                data = take(c)
            except ConnectionResetError:
                continue
            c.sendall(b'%d %d ' % (len(kept), len(data)) + data)
    except socket.timeout:
        pass
for c in kept[1:]:
    try:
        while c.recv(65536):
            pass
    except ConnectionResetError:
        pass
open(sys.argv[1] + '/result', 'w').write('pass')
"""
TEST_PROGRAM = os.path.join(BUILD, "ckpt-test")
LINGER_NONE = struct.pack("ii", 1, 0)


class Client:
    def __init__(self, host, port, said, end=""):
        self.sock = socket.create_connection((host, port))
        self.sock.settimeout(60)
        self.said, self.end = said, end
        self.sock.sendall(said)
        if end == "half":
            self.sock.shutdown(socket.SHUT_WR)
        if end == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            self.sock.close()

    def check(self, number):
        """The answer to what was said, from the accept of this number."""
        if self.end == "reset":
            return
        if not self.said.endswith(b"."):        # it goes on where it was
            self.sock.sendall(b" and more.")
            self.said += b" and more."
        want = b"%d %d " % (number, len(self.said)) + self.said
        got = b""
        while len(got) < len(want):
            part = self.sock.recv(65536)
            check(part, f"connection {number} ended after {got[:40]}")
            got += part
        check(got == want, f"connection {number}: {got[:80]} is not {want[:80]}")
        if self.end != "half":
            self.sock.shutdown(socket.SHUT_WR)

    def finish(self):
        if self.end != "reset":
            check(self.sock.recv(1) == b"", "more came")
            self.sock.close()


def connect(v4, both):
    big = bytes(range(32, 46)) + bytes(range(47, 127))
    return [Client("127.0.0.1", v4, b"first."), Client("127.0.0.1", v4, b"second"),
            Client("127.0.0.1", v4, b"half.", "half"), Client("127.0.0.1", v4, b"reset", "reset"),
            Client("127.0.0.1", v4, big * 400 + b"."), Client("127.0.0.1", v4, b""),
            Client("::1", both, b"sixth"), Client("127.0.0.1", both, b"mapped."),
            Client("::1", both, b"six and half.", "half"), Client("::1", both, big * 300)]


def trouble(box, target):
    """Whatever happens to ckpt: the program has its backlog again, and nothing stays locked."""
    before = backlogs()
    for point, how in (("tcp.taken", "kill"), ("dump.collected", "kill"), ("dump.collected", "fail"),
                       ("dump.thawed", "kill"), ("dump.thawed", "fail")):
        res = box.run([TEST_PROGRAM, "dump", "-t", str(target.pid), "-D", f"{box.image}-{point}-{how}", "--tcp", "keep",
                       "--kill"], env=dict(os.environ, CKPT_FAULT=f"{point}:{how}"), name="fault")
        check(res.code != 0 and alive(target.pid), f"{point}:{how}: {res}")
        box.wait(lambda: backlogs() == before and tables() == "",
                 f"{point}:{how}: the backlogs {backlogs()} are {before} again, and no lock is left: {tables()}")


def half_made(box, target, port):
    """The client has heard that it is connected, the program has not: ckpt lets them finish."""
    for cmd in ("add table inet test", "add chain inet test in { type filter hook input priority 0; }",
                f"add rule inet test in tcp dport {port} tcp flags & (syn|ack) == ack counter drop"):
        subprocess.run(["nft", *cmd.split()], check=True)
    client = Client("127.0.0.1", port, b"")
    image = box.image + "half"
    with open(os.path.join(box.dir, "half.log"), "w") as log:
        p = box.spawn([TEST_PROGRAM, "dump", "-t", str(target.pid), "-D", image, "--tcp", "keep", "--kill"], log, log,
                      env=dict(os.environ, CKPT_FAULT="tcp.handshakes:stop"))
    box.wait(lambda: " T " in read(f"/proc/{p.pid}/stat"), "ckpt waits for the handshake")
    late = socket.socket()
    late.setblocking(False)
    late.connect_ex(("127.0.0.1", port))    # not even begun: its SYN is dropped, and comes again
    subprocess.run(["nft", "delete", "table", "inet", "test"], check=True)
    client.sock.sendall(b"half made")
    client.said = b"half made"
    os.kill(p.pid, 18)
    check(p.wait(60) == 0, f"the dump: {read(os.path.join(box.dir, 'half.log'))}")
    box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "the program has ended")
    box.restore(image=image)
    late.close()
    return client


def body(box):
    ownnet.enter()
    with open(os.path.join(box.dir, "log"), "w") as log:
        p = box.spawn(["/usr/bin/python3", "-c", SERVER, box.dir], log, log)
    p.returncode = 0
    target = Target(box, p.pid, box.dir, "program")
    box.wait(lambda: os.path.exists(target.file("ports")), "the server listens")
    v4, both = (int(n) for n in read(target.file("ports")).split())
    clients = connect(v4, both)
    check(backlogs() == [4, 7], f"the backlogs hold {backlogs()}")
    res = box.dump(target, "--tcp", "keep", image=box.image + "copy")
    check("wait to be accepted" in res.err, f"a copy leaves them with the program, and says so: {res}")
    trouble(box, target)
    for i in "12":
        box.dump(target, "--tcp", "keep", "--kill", image=box.image + i)
        res = box.restore(image=box.image + i)
        check("reset" not in res.err, f"some were lost: {res}")
        check(backlogs() == [4, 7], f"after restore {i} the backlogs hold {backlogs()}")
    clients.insert(6, half_made(box, target, v4))
    check(backlogs() == [4, 8], f"with one that was being made the backlogs hold {backlogs()}")
    os.kill(target.pid, 15)
    try:
        for i, c in enumerate(clients):
            c.check(i + 2)
        for c in clients:
            c.finish()
        box.wait(lambda: os.path.exists(target.file("result")), "the verdict")
    except BaseException:
        box.log("server: " + read(os.path.join(box.dir, "log")))
        raise
    check(tables() == "", f"a lock is left: {tables()}")


main(body)
