# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=200
"""ckpt is killed while a thread runs code of its own, and the program is stopped before that thread found its way out. The
next dump saves the thread where the program had it, and nothing of ckpt runs on."""
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import busy  # noqa: E402
from _invariants import TEST_BUILD, points  # noqa: E402
from _walk import stopped_ckpt  # noqa: E402
from sandbox import check, main, state, threads  # noqa: E402


def killed_inside(box, target, point, image):
    """ckpt is killed at @point and the program stopped at the same instant."""
    log = open(os.path.join(box.dir, "killed.log"), "w")
    with log:
        p = box.spawn([TEST_BUILD, "dump", "-t", str(target.pid), "-D", image], log, log,
                      env=dict(os.environ, CKPT_FAULT=f"{point}:stop"))
    p.returncode = 0
    box.wait(lambda: p.pid in stopped_ckpt() or p.pid in box.status, f"{point} is reached")
    check(p.pid not in box.status, f"ckpt comes to {point}")
    os.kill(target.pid, signal.SIGSTOP)
    os.kill(p.pid, signal.SIGKILL)
    box.wait_pid(p.pid, "end of ckpt")
    box.wait(lambda: all(state(target.pid, t) == "T" for t in threads(target.pid)), f"all are stopped after {point}")


def body(box):
    names = [p for p in points() if p.startswith("inject.")]
    check(len(names) >= 5, f"points inside the program: {names}")
    for point in names:
        target = busy.start(box, point)
        first, image = os.path.join(box.dir, "first"), os.path.join(box.dir, f"image-{point}")
        killed_inside(box, target, point, first)
        shutil.rmtree(first, ignore_errors=True)
        box.dump(target, image=image)
        os.kill(target.pid, signal.SIGCONT)
        busy.lives(box, target, f"after a kill at {point} and a dump")
        check(not busy.foreign_maps(target), f"{point}: nothing of ckpt is left: {busy.foreign_maps(target)}")
        # And the copy, too, is the program's own.
        box.end_tree(target.pid)
        box.restore(image=image)
        os.kill(target.pid, signal.SIGCONT)
        busy.lives(box, target, f"restored after a kill at {point}")
        target.finish()
        shutil.rmtree(image)


main(body)
