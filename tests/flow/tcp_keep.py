# SPDX-License-Identifier: GPL-2.0-only
"""dump --tcp keep: a client in no tree of ours sends and reads 32 MiB through a program that is saved, ended and
brought back meanwhile, with full queues both ways, then half-closed; every byte is checked and no lock is left."""
import os
import socket
import subprocess
import threading

import echo
import ownnet
from ownnet import tables
from sandbox import BUILD, alive, check, main, read

BYTES = 32 << 20      # what is left after each dump is more than all queues hold, so the server is there
TEST_PROGRAM = os.path.join(BUILD, "ckpt-test")


class Client:
    """Sends and reads what comes back, until the end."""

    def __init__(self, host, port):
        # A fixed buffer: one that grows with the machine's limit could take all, and the server would be done.
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.connect((host, port))
        self.sock.settimeout(20)
        self.got, self.sent, self.error = 0, 0, None
        self.thread = threading.Thread(target=self.send, daemon=True)
        self.thread.start()

    def send(self):
        block = bytes(range(256)) * 4096
        try:
            while self.sent < BYTES:
                self.sock.sendall(block)
                self.sent += len(block)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as e:
            self.error = e

    def read(self):
        """Some bytes, checked; False at the end."""
        data = self.sock.recv(100000)
        first = self.got % 256
        want = (bytes(range(256)) * (len(data) // 256 + 2))[first:first + len(data)]
        check(data == want, f"other bytes behind {self.got}")
        self.got += len(data)
        return bool(data)

    def read_until(self, count):
        while self.got < count and self.read():
            pass
        check(self.got >= count, f"the connection ended after {self.got} bytes")

    def finish(self):
        while self.read():
            pass
        self.thread.join()
        check(not self.error and self.got == BYTES, f"{self.got} of {BYTES} bytes: {self.error}")
        self.sock.close()


def faults(box, target, client):
    """A kill of ckpt, or of its helper, at any point: the program goes on, and nothing stays locked."""
    for point in ("tcp.locked", "dump.frozen", "dump.collected", "dump.thawed", "tcp.repair", "tcp.kept"):
        image = f"{box.image}-{point}"
        box.run([TEST_PROGRAM, "dump", "-t", str(target.pid), "-D", image, "--tcp", "keep", "--kill"],
                env=dict(os.environ, CKPT_FAULT=f"{point}:kill"), name="fault")
        check(tables() == "" or not alive(target.pid), f"{point}: a lock is left: {tables()}")
        if not alive(target.pid):       # only a helper was killed, and ckpt went on to the end
            box.restore(image=image)
        client.read_until(client.got + (100 << 10))


def round_trips(box, v6):
    target, port = echo.start(box, v6, "::1" if v6 == "6" else "127.0.0.1")
    client = Client("::1" if v6 == "6" else "127.0.0.1", port)
    for i in range(3):
        client.read_until((i + 1) * (4 << 20))
        image = f"{box.image}{v6}{i}"
        if i == 1:      # a copy; both go on
            box.dump(target, "--tcp", "keep", image=image)
            continue
        res = box.dump(target, "--tcp", "keep", "--kill", image=image)
        check(tables() and tables().split()[-1] in res.out, f"the lock: {tables()}\n{res}")
        res = box.run([TEST_PROGRAM, "restore", "-D", image, "--detach"],
                      env=dict(os.environ, CKPT_FAULT="restore.built:kill"), name="fault")
        check(res.code != 0, f"a restore that was killed: {res}")
        box.wait(lambda: not alive(target.pid), "what that restore made ends")
        box.wait(lambda: len(tables().splitlines()) == 1, "of a restore that was killed no lock is left but the dump's")
        box.restore(image=image)
        check(tables() == "", f"a lock is left after the restore: {tables()}")
    if v6 == "4":
        faults(box, target, client)
    client.finish()


def body(box):
    ownnet.enter()
    for v6 in ("4", "6"):
        try:
            round_trips(box, v6)
        except BaseException:
            box.log(subprocess.run(["ss", "-tnoeim"], capture_output=True, text=True, check=False).stdout)
            box.log("server: " + read(os.path.join(box.dir, f"server-{v6}")) + str(box.status))
            raise


main(body)
