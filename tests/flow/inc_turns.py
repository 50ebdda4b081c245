# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""A series makes checkpoints of a program that must be asked at some steps, and replaces itself at others: each is whole. Of
those in which nothing is asked another thread looks at the memory meanwhile, and of some that are asked after all."""
import os
import signal

from held import HeldSeries
from sandbox import BUILD, Failure, Skip, check, main, read

STEPS = int(os.environ.get("T_STEPS", 34))


# A processor that another program keeps for itself is not there in time for who is to look ahead.
TRIES = 4


def one(box, turn):
    """A series of every step: (which left the program alone, which were looked at ahead, the log)."""
    target = box.start(os.path.join(BUILD, "tests/flow/turns"), subdir=str(turn))
    box.wait(lambda: os.path.exists(target.file("step0")), "the program")
    tracker = ("--tracker", os.environ["T_TRACKER"]) if "T_TRACKER" in os.environ else ()
    series = HeldSeries(box, target, os.path.join(box.dir, f"series{turn}"), *tracker)
    images, left_alone, ahead = [], [], []
    for step in range(STEPS):
        before = read(series.log).count("meanwhile")
        try:
            left_alone.append(series.step())
        except Failure as e:
            if "cannot track writes by" in str(e):
                raise Skip(f"the tracker {tracker[1]}") from e
            raise
        ahead.append(read(series.log).count("meanwhile") > before)
        images.append(series.image())
        os.kill(target.pid, signal.SIGUSR2)
        box.wait(lambda: os.path.exists(target.file(f"step{step + 1}")), f"step {step + 1}")
    log = read(series.log)
    series.end()
    target.finish()
    for image in images:
        box.status.pop(target.pid, None)
        box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the program")
        target.holds(image)
    if not any(left_alone):
        raise Skip("a kernel with BPF iterators of processes")
    check(not all(left_alone), f"nothing was asked ever: {log}")
    return left_alone, ahead, log


def body(box):
    for turn in range(TRIES):
        left_alone, ahead, log = one(box, turn)
        # The processors of a guest take turns.
        if "T_TRACKER" in os.environ or os.cpu_count() < 2 or any(ahead):
            break
    if "T_TRACKER" in os.environ or os.cpu_count() < 2:
        return
    check(any(ahead), f"nobody looked ahead: {log}")
    # And one of a machine may be busy.
    if sum(ahead) * 3 < sum(left_alone) * 2:
        return
    check(any(a and not b for a, b in zip(ahead, left_alone)), f"nobody was asked after that: {log}")


main(body)
