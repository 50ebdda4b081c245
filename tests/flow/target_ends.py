# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=200
"""A program with many threads is killed at random instants of its dump: ckpt ends and says so (or was done before), and
what it leaves is whole or no image."""
import os
import random
import shutil
import signal
import time

import busy
from sandbox import check, main, read

ENDS = int(os.environ.get("T_ENDS", "60"))


def body(box):
    rng = random.Random(6)
    reach, met = None, 0
    log_path = os.path.join(box.dir, "dump.log")
    for i in range(ENDS):
        target = busy.start(box, f"busy{i}")
        image = os.path.join(box.dir, f"image{i}")
        if reach is None:
            reach = box.dump(target, image=image).seconds
            shutil.rmtree(image)
        with open(log_path, "w") as log:
            p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", image], log, log)
        p.returncode = 0
        delay = rng.uniform(0, reach)
        why = f"killed {delay * 1000:.1f} ms into a dump"
        box.ended_by(p.pid, time.monotonic() + delay)
        os.kill(target.pid, signal.SIGKILL)
        status = box.wait_pid(p.pid, f"end of ckpt, the program {why}")
        said = read(log_path)
        if status:
            met += 1
            reach *= 1.2
            check(os.WEXITSTATUS(status) in (1, 3) and
                  ("E-TARGET-GONE" in said or "E-NO-SUCH-PID" in said or "has already ended" in said),
                  f"{why}: {status:#x} {said}")
            check(not os.path.exists(os.path.join(image, "inventory")), f"{why}: no image")
        else:       # the first dump of a machine says little about those that follow: about half are to be met
            reach *= 0.8
            check(box.run_ckpt("verify", "-D", image).code == 0, f"{why}: the image is whole")
        box.end_tree(target.pid)
        shutil.rmtree(image, ignore_errors=True)
        shutil.rmtree(target.dir)
    box.log(f"{ENDS} ends, {met} met by the dump")
    check(met > ENDS / 20, f"some ends hit a running dump, not {met}")


main(body)
