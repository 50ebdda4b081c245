# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300 needs=tool:nft,tool:ip
"""Every fault point of a dump and a restore that keep connections: ckpt, or a helper of it, fails, dies or is stopped there.
The program runs on with its connections, or it has ended and its image is whole; one client holds a connection all along and
gets no wrong byte, another waits to be accepted until the end; no lock is left but that of an image that waits."""
import os
import shutil
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../lib")]
import echo  # noqa: E402
from _invariants import Program, World, no_half_image, points, points_of, unmet  # noqa: E402
from _walk import HOWS, disturb, one_clear_error, private_world  # noqa: E402
from lan import Asker  # noqa: E402
from ownnet import tables  # noqa: E402
from sandbox import alive, check, main, state  # noqa: E402

# The guard alone dies while it lets go: ckpt ends what runs already, and its connections with it (tests/faults/restore.py).
TOO_LATE = [("restore.letting_go", "kill")]
# Only while a handshake is under way: tests/flow/tcp_backlog.py.
ELSEWHERE = ("tcp.handshakes",)
ALSO_DUMP = ("dump.frozen", "dump.collected", "dump.thawed", "dump.committed", "image.rename")


class Walk:
    def __init__(self, box):
        self.box, self.hit = box, set()
        self.target, port = echo.start(box, "echo", "127.0.0.1", count=2)
        self.client = Asker(socket.create_connection(("127.0.0.1", port), timeout=60), echo.ask)
        self.client.goes_on(box, "at first")
        self.waiting = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.waiting.sendall(b"and me")
        self.program = Program(box, self.target, churns=True)
        self.world = World(box)

    def runs(self):
        return alive(self.target.pid) and state(self.target.pid) not in ("T", "t")

    def unread(self):
        """What the program has not read of the connection that waits."""
        out = subprocess.run(["ss", "-Htn", "dport", f"= {self.waiting.getsockname()[1]}"], capture_output=True, text=True, check=True)
        return [int(line.split()[1]) for line in out.stdout.splitlines()]

    def settled(self, what, met):
        """Does the program run? It does, connected and without a lock; or it has ended, and one lock holds its place."""
        before = self.client.count

        def done():
            check(not self.client.error, f"{what}: the client after {self.client.count} answers: {self.client.error}")
            if self.runs():
                return tables() == "" and self.client.count >= before + 3 and self.unread() == [6]
            return not alive(self.target.pid) and len(tables().splitlines()) == 1
        self.box.wait(done, f"{what}: it runs and answers without a lock, or has ended behind one: {tables()}, {self.unread()}", 60)
        runs = self.runs()
        self.world.clean(what, allowed=lambda kind, name: not runs and kind == "nft tables" or name.startswith(self.box.image))
        if runs:
            self.program.unharmed(what, moved=True)
        self.box.log(f"{what}: met {met}, it {'runs' if runs else 'has ended'}")
        return runs

    def dump(self, point, how):
        what = f"dump {point}:{how}"
        # Once: who is killed while it reads a connection is replaced.
        res = disturb(self.box, point, how, "dump", "-t", self.target.pid, "-D", self.box.image, "--tcp", "keep", "--kill", turn=1)
        self.hit |= {point} if res.met else set()
        runs = self.settled(what, res.met)
        check(res.code != 0 if runs else res.code in (0, -9), f"{what}: it {'runs' if runs else 'has ended'}: {res}")
        if res.code > 0:
            one_clear_error(res, what)
        if not runs:
            self.box.status.pop(self.target.pid, None)
            self.box.restore()
            check(self.settled(f"{what}, restored", False), f"{what}: it is not restored")
        else:
            no_half_image(self.box, self.box.image, what)
        shutil.rmtree(self.box.image, ignore_errors=True)

    def restore(self, point, how):
        what = f"restore {point}:{how}"
        self.box.dump(self.target, "--tcp", "keep", "--kill")
        self.box.status.pop(self.target.pid, None)
        res = disturb(self.box, point, how, "restore", "-D", self.box.image, "--detach")
        self.hit |= {point} if res.met else set()
        runs = self.settled(what, res.met)
        check(runs if res.code == 0 else res.code != 0, f"{what}: {res}")
        check(not runs or res.code in (0, -9), f"{what}: it runs, and ckpt says it does not: {res}")
        if not runs:
            self.box.status.pop(self.target.pid, None)
            self.box.restore()
            check(self.settled(f"{what}, again", False), f"{what}: it is not restored")
        shutil.rmtree(self.box.image)


def body(box):
    private_world()
    w = Walk(box)
    names = points_of("tcp")
    for point in names + [p for p in ALSO_DUMP if p in points()]:
        for how in HOWS:
            w.dump(point, how)
            if point not in w.hit:
                break
    for point in ["tcp.built"] + points_of("restore"):
        for how in HOWS:
            if (point, how) not in TOO_LATE:
                w.restore(point, how)
            if point not in w.hit:      # of other restores
                break
    w.client.stop()
    w.client.sock.close()
    check(echo.exactly(w.waiting, 6) == b"and me", "the other client is accepted, and answered")
    w.waiting.close()
    box.wait(lambda: not alive(w.target.pid), "the program ends with its clients")
    missed = unmet((p for p in names if p not in ELSEWHERE), w.hit)
    check(not missed, f"points that are not met: {missed}")


main(body)
