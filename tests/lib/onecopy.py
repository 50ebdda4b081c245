# SPDX-License-Identifier: GPL-2.0-only
"""After whatever happened to a migration: exactly one copy of the program lives, and it is right."""
import os

import busy
from sandbox import BUILD, Failure, alive, check, state


class OneCopy:
    """The self-checking program tests/flow/busy, wherever it runs; started anew when it ended."""

    def __init__(self, box, node):
        self.box, self.node, self.target, self.n = box, node, None, 0

    def start(self):
        if self.target:
            return self.target
        self.n += 1
        self.target = self.box.start(os.path.join(BUILD, "tests/flow/busy"), subdir=f"busy{self.n}")
        return self.target.wait_ready()

    def every_thread_lives(self, what):
        """Each counter moves."""
        before = busy.progress(self.target)

        def still():
            return [name for name, was, now in zip(busy.COUNTERS, before, busy.progress(self.target)) if was == now]
        try:
            self.box.wait(lambda: not still(), "", timeout=20)
        except Failure:
            check(False, f"{what}: stand still: {still()}{self.target.why()}")

    def runs(self, pid):
        return bool(pid) and alive(pid) and state(pid) not in ("T", "t")

    def verify(self, what):
        """Returns "here" or "there"."""
        t = self.target
        there = self.node.outer(t.pid)
        self.box.wait(lambda: self.runs(t.pid) != self.runs(self.node.outer(t.pid)),
                      f"{what}: exactly one copy runs (here {state(t.pid) or 'gone'}, there "
                      f"{state(there) if there else 'gone'}){t.why()}", timeout=10)
        here = self.runs(t.pid)
        if here:
            self.box.wait(self.node.idle, f"{what}: the peer drops its copy", timeout=10)
        check(here or not alive(t.pid), f"{what}: a second copy is at the source")
        self.every_thread_lives(what)
        check(not os.path.exists(t.file("failures")), f"{what}: {t.why()}")
        if here:
            return "here"
        self.node.finish(t, what)
        self.box.status.pop(t.pid, None)
        self.target = None
        return "there"

    def leftovers(self, what):
        for kind in ("source-",):
            left = [f for f in os.listdir(self.node.run_dir) if f.startswith(kind)]
            check(not left, f"{what}: {left} is left")

    def end(self):
        if self.target:
            self.target.finish()
            self.target = None


def read_json_lines(text):
    import json
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


__all__ = ["OneCopy", "read", "read_json_lines"]
