# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""A dump that is killed at a random instant, and another one at once, of a program that is signalled, clones, forks and
spawns all the time: each thread comes to its stop, and the second dump is whole."""
import os
import random
import shutil
import signal
import time

from sandbox import BUILD, check, main, state, threads

ROUNDS = int(os.environ.get("T_ROUNDS", "20"))


def body(box):
    rng = random.Random(4711)
    target = box.start(os.path.join(BUILD, "tests/flow/restless")).wait_ready()
    span = max(box.dump(target, image=os.path.join(box.dir, f"first{i}")).seconds for i in range(2))
    for i in range(ROUNDS):
        image = os.path.join(box.dir, f"image{i}")
        with open(os.devnull, "w") as null:
            p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", image], null, null)
        p.returncode = 0
        delay = rng.uniform(0, span)
        if not box.ended_by(p.pid, time.monotonic() + delay):
            os.kill(p.pid, signal.SIGKILL)
        box.wait_pid(p.pid, "end of the killed dump")
        res = box.run_ckpt("dump", "-t", target.pid, "-D", image + "-again", timeout=60)
        check(res.code == 0, f"a dump right after one that was killed {delay * 1000:.1f} ms in: {res}")
        shutil.rmtree(image, ignore_errors=True)
        shutil.rmtree(image + "-again")
        check(not os.path.exists(target.file("failures")), f"round {i}{target.why()}")
    box.wait(lambda: all(state(target.pid, t) not in ("t", "T") for t in threads(target.pid)), "nobody is stopped")
    box.dump(target, "--kill")
    box.restore()
    target.finish()


main(body)
