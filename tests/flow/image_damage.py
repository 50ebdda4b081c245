# SPDX-License-Identifier: GPL-2.0-only
"""No byte of a checkpoint can change unseen: verify refuses a copy in which one byte was flipped, any file was cut,
lengthened or removed, and restore never makes a task from a copy whose records were touched."""
import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, Sandbox, check, pids  # noqa: E402

CKPT = os.path.join(BUILD, "ckpt")
rng = random.Random(20)

box = Sandbox()
target = box.start(os.path.join(BUILD, "tests/kind/task_simple"))
target.wait_ready()
image = os.path.join(box.dir, "image")
copy = os.path.join(box.dir, "copy")
box.dump(target, "--kill", image=image)


def ckpt(*argv):
    return subprocess.run([CKPT, *argv], capture_output=True, text=True, timeout=60)


def refused(what, restore):
    r = ckpt("verify", "-D", copy)
    check(r.returncode == 3 and "E-IMAGE" in r.stderr, f"verify took {what}: {r.returncode} {r.stderr}")
    if restore:
        before = pids()
        r = ckpt("restore", "-d", "-D", copy)
        check(r.returncode == 3 and "E-IMAGE" in r.stderr, f"restore took {what}: {r.returncode} {r.stderr}")
        check(pids() == before, f"restore of {what} left a task")



def damage(image, flips):
    check(ckpt("verify", "-D", image).returncode == 0, "verify refuses a good image")
    shutil.copytree(image, copy)
    for name in sorted(os.listdir(image)):
        path = os.path.join(copy, name)
        good = open(path, "rb").read()
        offsets = range(len(good)) if len(good) < 1500 else sorted(rng.sample(range(len(good)), flips))
        with open(path, "r+b") as f:
            for at in offsets:
                f.seek(at)
                f.write(bytes([good[at] ^ (1 << rng.randrange(8))]))
                f.flush()
                # Pages are checked by verify; a restore checks what it decodes.
                refused(f"{name} with byte {at} flipped", name != "pages" and at % 37 == 0)
                f.seek(at)
                f.write(good[at:at + 1])
                f.flush()
            for size in sorted({0, 1, 7, 8, 23, len(good) // 2, len(good) - 1, len(good) + 1, len(good) + 4096}):
                f.truncate(size)
                refused(f"{name} with {size} of {len(good)} bytes", True)
                f.seek(0)
                f.truncate(0)
                f.write(good)
                f.flush()
        os.unlink(path)
        refused(f"an image without {name}", True)
        shutil.copy(os.path.join(image, name), path)
    check(ckpt("verify", "-D", copy).returncode == 0, "the copy did not become good again")
    shutil.rmtree(copy)


damage(image, 400)
# The same pages packed are as safe.
for how in "lz4", "zstd":
    packed = os.path.join(box.dir, how)
    r = ckpt("merge", "-D", image, "-o", packed, "--compress", how)
    check(r.returncode == 0, f"merge --compress {how}: {r.stderr}")
    damage(packed, 150)
# And the original still comes back.
box.restore(image=image)
target.finish()
