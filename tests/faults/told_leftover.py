# SPDX-License-Identifier: GPL-2.0-only
"""A series makes checkpoints of a program in which nothing need run. Another ckpt is killed inside that program: the next
checkpoint of the series leads the thread out, and saves it where the program had it."""
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _invariants import TEST_BUILD, points  # noqa: E402
from _walk import stopped_ckpt  # noqa: E402
from held import HeldSeries  # noqa: E402
from sandbox import BUILD, Skip, check, main, state  # noqa: E402

def killed_inside(box, target, point):
    image = os.path.join(box.dir, "killed")
    with open(os.path.join(box.dir, "killed.log"), "w") as log:
        p = box.spawn([TEST_BUILD, "dump", "-t", str(target.pid), "-D", image], log, log,
                      env=dict(os.environ, CKPT_FAULT=f"{point}:stop"))
    p.returncode = 0
    box.wait(lambda: p.pid in stopped_ckpt() or p.pid in box.status, f"{point} is reached")
    reached = p.pid not in box.status
    if reached:
        os.kill(target.pid, signal.SIGSTOP)
        os.kill(p.pid, signal.SIGKILL)
        box.wait_pid(p.pid, "end of ckpt")
        box.wait(lambda: state(target.pid) == "T", f"it is stopped after {point}")
    shutil.rmtree(image, ignore_errors=True)
    return reached


def one(box, point):
    target = box.start(os.path.join(BUILD, "tests/flow/patchwork"), subdir=point)
    box.wait(lambda: os.path.exists(target.file("step0")), "the program")
    series = HeldSeries(box, target, os.path.join(box.dir, f"series-{point}"))
    if not any([series.step() for _ in range(6)]):
        raise Skip("a kernel with BPF iterators of processes")
    check(series.step(), "it is left alone")
    if not killed_inside(box, target, point):
        series.end()
        target.finish()
        return False
    series.step()
    image = series.image()
    os.kill(target.pid, signal.SIGCONT)
    series.step()
    after = series.image()
    series.end()
    with open(f"/proc/{target.pid}/maps") as maps:
        check("rwxs" not in maps.read(), f"{point}: an arena is left")
    target.finish()
    for saved in (image, after):
        box.status.pop(target.pid, None)
        box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the program")
        os.unlink(target.file("result"))
        box.restore(image=saved)
        os.kill(target.pid, signal.SIGCONT)
        target.finish()
    return True


def body(box):
    names = [p for p in points() if p.startswith("inject.")]
    reached = [point for point in names if one(box, point)]
    check(len(reached) >= 4, f"points inside the program: {reached} of {names}")


main(body)
