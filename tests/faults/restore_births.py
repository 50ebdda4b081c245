# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=200
"""A restore is killed at random instants while it gives birth: to processes whose session takes helpers and stand-ins,
that share descriptors and directories, whose first thread has ended. No newborn is left, and the last restore is whole."""
import contextlib
import os
import random
import re
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _invariants import ckpt_maps  # noqa: E402
from inits import inner, start_init  # noqa: E402
from sandbox import BUILD, check, describe, main, pids, tree  # noqa: E402

ROUNDS = int(os.environ.get("T_ROUNDS", "12"))
PROGRAMS = ("task_daemon", "task_sharefiles", "task_sharefs", "task_leader")


def restore(box, image):
    with open(os.devnull, "w") as null:
        p = box.spawn([box.ckpt, "restore", "-D", image, "--detach"], null, null)
    p.returncode = 0
    return p.pid


def end(members):
    for p in members:
        with contextlib.suppress(ProcessLookupError):       # an init takes all with it
            os.kill(p, signal.SIGKILL)


def kills(box, rng, name, image, before, whole):
    span = 0.02
    for i in range(ROUNDS):
        begin = time.monotonic()
        ckpt = restore(box, image)
        delay = rng.uniform(0, span)
        if not box.ended_by(ckpt, begin + delay):
            os.kill(ckpt, signal.SIGKILL)
        done = box.wait_pid(ckpt, "end of ckpt") == 0
        span *= 0.9 if done else 1.1
        if done:                # faster than thought: end what runs
            end(set(pids()) - before)
        left = []

        def gone():
            left[:] = sorted(set(pids()) - before)
            # Killed behind the release: whole, and without a trace of ckpt in it.
            if left and whole(left) and not any(ckpt_maps(p) for p in left):
                end(left)
            return not left
        try:
            box.wait(gone, "", timeout=20)
        except Exception:
            check(False, f"{name}: killed after {delay * 1000:.2f} ms, this is left: "
                  + "\n".join(describe(p) for p in left))
    box.log(f"{name}: kills up to {span * 1000:.1f} ms into a restore")


def body(box):
    rng = random.Random(99)
    for name in PROGRAMS:
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name).wait_ready()
        image = f"{box.image}-{name}"
        members = sorted(tree(target.pid))
        before = set(pids()) - set(members)
        box.dump(target, "--kill", image=image)
        kills(box, rng, name, image, before, lambda left: left == members)
        box.restore(image=image)
        target.finish()
    # As the init of a pid namespace of its own.
    before = set(pids())
    target = start_init(box, "task_daemon", "--mount-proc")
    image = f"{box.image}-init"
    numbers = sorted(map(inner, tree(target.pid)))
    box.dump(target, "--kill", image=image)
    box.wait(lambda: set(pids()) == before, "end of unshare")
    kills(box, rng, "init", image, before, lambda left: sorted(map(inner, left)) == numbers)
    res = box.restore(image=image)
    target.pid = int(re.search(r"restored process (\d+)", res.out).group(1))
    target.finish()


main(body)
