# SPDX-License-Identifier: GPL-2.0-only
"""Threads are stopped in the middle of the first write to a page of a file that they have mapped: the page is theirs, not yet
written, and no parent has it. Increments save it, and what they save is right."""
import os

from sandbox import BUILD, check, main

COUNT = 120


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/rewriter")).wait_ready()
    series = os.path.join(box.dir, "series")
    res = box.run_ckpt("dump", "-t", target.pid, "-D", series, "--every", "1ms", "--keep", "4", "--count", COUNT, timeout=100)
    check(res.code == 0 and res.out.count("saved process") == COUNT, f"{res}")
    check("full checkpoint" not in res.err, f"{res}")
    target.finish()
    box.status.pop(target.pid, None)
    box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the program")
    for n in range(COUNT - 3, COUNT + 1):
        target.holds(f"{series}/{n:06d}")
        box.status.pop(target.pid, None)


main(body)
