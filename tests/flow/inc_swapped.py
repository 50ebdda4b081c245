# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""A page becomes another mapping between two checkpoints of a series, and has the same place all the time: each checkpoint
has it as it was then, also the next, for which it is not looked at again."""
import os
import signal

from held import SETTLED, HeldSeries
from sandbox import BUILD, Failure, Skip, check, main, read

STEPS = 11


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/swapped"))
    box.wait(lambda: os.path.exists(target.file("step0")), "the program")
    tracker = ("--tracker", os.environ["T_TRACKER"]) if "T_TRACKER" in os.environ else ()
    series = HeldSeries(box, target, os.path.join(box.dir, "series"), *tracker)
    images, settled = [], []

    def checkpoint():
        before = read(series.log).count(SETTLED)
        try:
            series.step()
        except Failure as e:
            if "cannot track writes by" in str(e):
                raise Skip(f"the tracker {tracker[1]}") from e
            raise
        settled.append(read(series.log).count(SETTLED) > before)

    for step in range(STEPS):
        for _ in range(6 if not step else 2):
            checkpoint()
            images.append(series.image())
        if step + 1 < STEPS:
            os.kill(target.pid, signal.SIGUSR2)
            box.wait(lambda: os.path.exists(target.file(f"step{step + 1}")), f"step {step + 1}")
    series.end()
    target.finish()
    for image in images[5:]:
        box.status.pop(target.pid, None)
        box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the program")
        target.holds(image)
    if not any(settled):
        raise Skip("a kernel whose records tell whether mappings were changed (CONFIG_PER_VMA_LOCK)")
    check(not any(settled[6::2]), f"it was not seen that they changed: {settled}")
    # The module holds the address space as somebody does who changes it.
    check(tracker or all(settled[5::2]), f"they were read again: {settled}")


main(body)
