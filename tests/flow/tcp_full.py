# SPDX-License-Identifier: GPL-2.0-only
"""dump --tcp keep of a connection whose queues are full both ways, of a program that does not read: while it comes
back its peer is not let send more than its buffer holds. A window that closes behind what is on its way already
makes the kernel drop what the peer says from then on, and the connection stands still for good."""
import os
import re
import signal
import socket
import subprocess
import threading

import ownnet
from sandbox import Target, alive, check, main, read

ROUNDS = 6

# Fills its queue, and reads when it is told to: all of it, and tells how much.
SERVER = """
import signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
l = socket.create_server(('127.0.0.1', 0))
print(l.getsockname()[1], flush=True)
c, _ = l.accept()
c.setblocking(False)
sent = 0
block = bytes(range(256)) * 256
try:
    while True:
        sent += c.send(block[sent % 256:])
except BlockingIOError:
    pass
print('full', sent, flush=True)
signal.sigwait([signal.SIGUSR1])
c.setblocking(True)
got, wrong = 0, 0
while True:
    d = c.recv(65536)
    if not d:
        break
    wrong += d != (block + block)[got % 256:got % 256 + len(d)]
    got += len(d)
print('got', got, wrong, flush=True)
"""


def memory(port):
    """(what its queue takes, what it may take) of the server's end."""
    text = subprocess.run(["ss", "-tnmH", "sport", "=", f":{port}"], capture_output=True, text=True, check=True).stdout
    m = re.search(r"skmem:\(r(\d+),rb(\d+)", text)
    check(m, f"the connection is there: {text}")
    return int(m.group(1)), int(m.group(2))


class Flood:
    """A client that sends as much as it is let, and reads nothing so far."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.settimeout(20)
        self.sent, self.ends, self.error = 0, False, None
        self.thread = threading.Thread(target=self.send, daemon=True)
        self.thread.start()

    def send(self):
        block = bytes(range(256)) * 256
        try:
            while not self.ends:
                self.sent += self.sock.send(block[self.sent % 256:])
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as e:
            self.error = e

    def closed(self):
        """The window of the server, so that there is nothing on its way."""
        text = subprocess.run(["ss", "-tnoH", "dport", "=", f":{self.sock.getpeername()[1]}"], capture_output=True,
                              text=True, check=True).stdout
        return "timer:(persist" in text


def body(box):
    ownnet.enter()
    out = os.path.join(box.dir, "server")
    with open(out, "w") as f:
        p = box.spawn(["/usr/bin/python3", "-c", SERVER], f, f)
    p.returncode = 0
    box.wait(lambda: read(out).endswith("\n"), "the server listens")
    target, port = Target(box, p.pid, box.dir, "server"), int(read(out).split()[0])
    flood = Flood(port)
    box.wait(lambda: "full" in read(out), "the server has filled its queue")
    for i in range(ROUNDS):
        box.wait(flood.closed, "the client has filled the server's")
        before = memory(port)
        image = f"{box.image}{i}"
        box.dump(target, "--tcp", "keep", "--kill", image=image)
        check(not alive(target.pid), "the server has ended")
        box.restore(image=image)
        box.wait(flood.closed, "the window is closed again")
        takes, may = memory(port)
        box.log(f"before {before}, behind {takes, may}")
        check(takes <= may, f"of a buffer of {may} bytes {takes} are taken; before it was {before}")
    sent = int(read(out).split()[2])
    flood.ends = True
    os.kill(target.pid, signal.SIGUSR1)
    got = 0
    block = bytes(range(256)) * 512
    while got < sent:
        data = flood.sock.recv(65536)
        check(data and data == block[got % 256:got % 256 + len(data)], f"other bytes behind {got}")
        got += len(data)
    flood.thread.join()
    box.wait(lambda: "got" in read(out), f"the server reads to the end: {flood.error}")
    check(read(out).split()[-2:] == [str(flood.sent), "0"], f"{read(out)}: of {flood.sent} bytes")


main(body)
