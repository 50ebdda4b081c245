# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""Python with threads, queues and asyncio: every hash chain goes on from where it was, unbroken."""
import hashlib
import os

from _app import HERE, Line, PYTHON, can_connect, check, main

THREADS = 6


class Replay:
    """Follows a chain and knows the right digest at any later count."""

    def __init__(self, number):
        self.count, self.digest = 0, hashlib.sha256(b"%d" % number).digest()

    def check(self, answer, what):
        count, digest = answer.split()
        check(int(count) >= self.count, f"{what}: {count} steps, {self.count} were done before")
        while self.count < int(count):
            self.digest = hashlib.sha256(self.digest).digest()
            self.count += 1
        check(self.digest.hex() == digest, f"{what} is right after {count} steps")


def body(app):
    path = os.path.join(app.dir, "socket")
    app.start([PYTHON, "-B", os.path.join(HERE, "_threads.py"), path], "python")
    app.ready(lambda: os.path.exists(path) and can_connect(path), "the server answers")
    replay = [Replay(i) for i in range(THREADS)]
    whole = hashlib.sha256("".join(hashlib.sha512(b"%d" % i).hexdigest() for i in range(50_000)).encode())

    def verify(when):
        with Line(path) as line:
            ticks = int(line.ask("ticks"))
            counts = [r.count for r in replay]
            for i, r in enumerate(replay):
                r.check(line.ask(f"chain {i}"), f"chain {i} {when}")
                app.ready(lambda i=i: int(line.ask(f"chain {i}").split()[0]) > counts[i] + 400,
                          f"chain {i} goes on {when}")
                r.check(line.ask(f"chain {i}"), f"chain {i} later {when}")
            check(line.ask("data") == f"50000 {whole.hexdigest()}", f"the data is right {when}")
            check(61 <= int(line.ask("ring")) <= 64, f"the ring lost nothing {when}")
            check(int(line.ask("thread")) >= THREADS + 3, f"a new thread runs {when}")
            check(line.ask("process 20 + 22") == "42 0", f"a new process runs {when}")
            app.ready(lambda: int(line.ask("ticks")) > ticks + 3, f"timers go on {when}")

    verify("at the start")
    app.copy()
    verify("after a copy")
    for turn in range(3):
        app.move()
        verify(f"after restore {turn + 1}")
    app.stop(expect=-15)


main(body, network=False)
