# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""A chain of increments of a program that does everything to its memory: each is whole, and restored it verifies
itself. With a forced tracker the same again."""
import os
import random
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main  # noqa: E402

LENGTH = int(os.environ.get("T_CHAIN", "40"))
SAMPLES = int(os.environ.get("T_SAMPLES", "6"))
MUTATE = os.path.join(BUILD, "tests/flow/mutate")


def chain(box, name, *options):
    target = box.start(MUTATE, subdir=name).wait_ready()
    images = []
    for i in range(LENGTH):
        image = os.path.join(box.dir, f"{name}-{i}")
        how = ["--parent", images[-1]] if images else ["--track", *options]
        res = box.dump(target, *how, image=image)
        check("full checkpoint" not in res.err, f"increment {i} became a full one: {res}")
        images.append(image)
    res = box.run_ckpt("track", "status", "-t", target.pid)
    check(res.code == 0 and "armed" in res.out, f"{res}")
    # The program itself goes on unharmed.
    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the tracked program failed{target.why()}")
    merged = os.path.join(box.dir, f"{name}-merged")
    check(box.run_ckpt("merge", "-D", images[-1], "-o", merged).code == 0, "merge")
    rng = random.Random(len(name))
    picked = sorted(set(rng.sample(range(LENGTH), min(SAMPLES, LENGTH)) + [LENGTH - 1]))
    for i in picked:
        target.holds(images[i])
    for image in images:
        shutil.rmtree(image)
    target.holds(merged)


def body(box):
    chain(box, "best")
    chain(box, "none", "--tracker", "none")


main(body)
