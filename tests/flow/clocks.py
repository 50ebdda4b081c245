# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=90
"""An image of another boot: monotonic time and boot time go on from where they were, in a time namespace that the
restore makes; a program in one of its own keeps it on the same boot. Twice in a row."""
import os
import time

from sandbox import BUILD, Skip, alive, check, main, read

OFFSETS = {"task_clock": 0, "task_timens": 1000000}


def offset(pid):
    """Seconds by which the monotonic clock of a program is ahead of ours."""
    line = next(l for l in read(f"/proc/{pid}/timens_offsets").splitlines() if l.startswith("monotonic"))
    return int(line.split()[1]) + int(line.split()[2]) / 1e9


def body(box):
    if not os.path.exists("/proc/self/ns/time"):
        raise Skip("time namespaces")
    for name, shift in OFFSETS.items():
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name)
        target.wait_ready()
        was = shift
        for turn in range(2):
            image = f"{box.image}-{name}-{turn}"
            begin = time.clock_gettime(time.CLOCK_MONOTONIC)
            box.dump(target, "--kill", image=image)
            # The test program takes any boot for another one at this point: then no time has passed.
            env = dict(os.environ, CKPT_FAULT="restore.boot:fail")
            res = box.run([os.path.join(BUILD, "ckpt-test"), "restore", "-D", image, "--detach"],
                          env=env, name="restore")
            passed = time.clock_gettime(time.CLOCK_MONOTONIC) - begin
            check(res.code == 0 and alive(target.pid), f"{res}")
            now = offset(target.pid)
            check(was - passed <= now < was, f"{name}: its clock is {now} s ahead, it was {was}; {passed} s have passed")
            was = now
        # And on the same boot it stays where it is.
        box.dump(target, "--kill", image=f"{box.image}-{name}-same")
        box.restore(image=f"{box.image}-{name}-same")
        check(abs(offset(target.pid) - was) < 1e-6, f"{name}: {offset(target.pid)}, it was {was}")
        target.finish()


main(body)
