# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=900
"""ckpt is killed at 500 random instants of a dump: the program runs on, untraced and unstopped, and can
still be dumped, killed and restored afterwards. At most two mappings of ckpt are left, until the next dump."""
import os
import random
import shutil
import signal
import time

import busy
from sandbox import Failure, check, main

KILLS = int(os.environ.get("T_KILLS", "500"))


def body(box):
    rng = random.Random(20260)
    target = busy.start(box)
    check(not busy.foreign_maps(target), "the program has no shared anonymous mapping")
    took = []
    for i in range(3):
        image = os.path.join(box.dir, f"whole{i}")
        took.append(box.dump(target, image=image).seconds)
        busy.lives(box, target, "after a whole dump")
        shutil.rmtree(image)
    span = sorted(took)[1]
    box.log(f"a dump takes {span * 1000:.0f} ms")
    finished = 0
    for i in range(KILLS):
        image = os.path.join(box.dir, f"image{i}")
        with open(os.devnull, "w") as null:
            p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", image], null, null)
        p.returncode = 0
        delay = rng.uniform(0, span)
        if not box.ended_by(p.pid, time.monotonic() + delay):
            os.kill(p.pid, signal.SIGKILL)
        status = box.wait_pid(p.pid, "end of ckpt")
        if status == 0:
            finished += 1
            span *= 0.9         # it was faster than thought: aim at its inside
        else:
            span *= 1.04
        why = f"after kill {i}, {delay * 1000:.1f} ms into a dump"
        busy.lives(box, target, why)
        # Between two threads nobody is inside to unmap an arena, of which there are two: the next dump does.
        check(len(busy.foreign_maps(target)) <= 2, f"more than two arenas are left {why}")
        if i % 50 == 0 and status != 0 and os.path.isdir(image):
# Killed behind the commit it is whole; anything less must not be taken for one.
            whole = box.run_ckpt("verify", "-D", image).code == 0
            check(whole or box.run_ckpt("show", "-D", image).code != 0, f"a torn image is shown {why}")
        shutil.rmtree(image, ignore_errors=True)
        if os.path.exists(target.file("failures")):
            raise Failure(f"the program is hurt {why}{target.why()}")
    box.log(f"{KILLS} kills, {finished} dumps were faster")
    check(finished < KILLS * 0.6, "most kills hit a running dump")
    box.dump(target, image=os.path.join(box.dir, "last"))
    box.wait(lambda: not busy.foreign_maps(target), "no arena is left", 5)
    box.dump(target, "--kill")
    box.restore()
    busy.lives(box, target, "after the restore")
    target.finish()


main(body)
