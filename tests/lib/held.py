# SPDX-License-Identifier: GPL-2.0-only
"""A series of which each checkpoint is made when a test wants it."""
import os
import signal

from sandbox import BUILD, check, read

TOLD = "nothing was asked"
SETTLED = "its mappings are as they were"


class HeldSeries:
    """Of which each checkpoint waits for step()."""

    def __init__(self, box, target, path, *args):
        self.box, self.path, self.made = box, path, 0
        self.held, self.log = (os.path.join(box.dir, n) for n in ("held", "series.log"))
        with open(self.log, "w") as log:
            self.p = box.spawn([os.path.join(BUILD, "ckpt-test"), "dump", "-vv", "-t", str(target.pid), "-D", path, "--every",
                                "1ms", "--keep", "50", *args], log, log,
                               env=dict(os.environ, CKPT_FAULT="every.made:hold", CKPT_FAULT_MET=self.held))
        self.p.returncode = 0

    def step(self):
        """One more checkpoint: was the program left alone?"""
        before = read(self.log).count(TOLD)
        if self.made:
            os.unlink(self.held)
        self.box.wait(lambda: os.path.exists(self.held) or self.p.pid in self.box.status, "a checkpoint")
        check(self.p.pid not in self.box.status, read(self.log))
        self.made += 1
        return read(self.log).count(TOLD) > before

    def image(self):
        return f"{self.path}/{self.made:06d}"

    def end(self):
        os.kill(self.p.pid, signal.SIGKILL)
        self.box.wait_pid(self.p.pid, "end of the series")
        os.unlink(self.held)
