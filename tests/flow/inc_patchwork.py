# SPDX-License-Identifier: GPL-2.0-only
"""Sixty small mappings, of a file and of nothing, that are written to for the first time, dropped, protected and replaced
between increments: each is whole. Those nobody has written to are not looked at, the others at once."""
import os
import signal

from sandbox import BUILD, Skip, check, main

STEPS = 14


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/patchwork"))
    images, tracker = [], ("--tracker", os.environ["T_TRACKER"]) if "T_TRACKER" in os.environ else ()
    for step in range(STEPS):
        box.wait(lambda: os.path.exists(target.file(f"step{step}")), f"step {step}")
        images.append(os.path.join(box.dir, f"{step}"))
        res = box.run_ckpt("dump", "-t", target.pid, "-D", images[-1],
                           *(("--parent", images[-2]) if step else ("--track", *tracker)))
        if tracker and "cannot track writes by" in res.err:
            raise Skip(f"the tracker {tracker[1]}")
        check(res.code == 0, f"{res}")
        check("full checkpoint" not in res.err, f"{res}")
        os.kill(target.pid, signal.SIGUSR2)
    box.wait(lambda: os.path.exists(target.file(f"step{STEPS}")), "the last step")
    target.finish()
    for image in images:
        box.status.pop(target.pid, None)
        box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the program")
        target.holds(image)


main(body)
