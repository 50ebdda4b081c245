# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Every named fault point, with ckpt killed there and with a failure there. A dump leaves the program
unharmed and no image; a restore leaves nothing behind and can be repeated."""
import glob
import os
import re
import shutil

import busy
from sandbox import ROOT, check, main, pids, read


def points():
    found = set()
    for path in glob.glob(os.path.join(ROOT, "tools/**/*.c"), recursive=True):
        found.update(re.findall(r'ckpt_fault\("([^"]+)"\)', read(path)))
    # Those of other rooms, and of a dump that is tracked, have flows of their own.
    mine = ("dump.", "image.", "inject.", "restore.")
    return sorted(n for n in found if n.startswith(mine) and n != "dump.snapshot")


def body(box):
    box.ckpt = os.path.join(os.path.dirname(box.ckpt), "ckpt-test")
    names = points()
    check(names, "there are fault points in tools/")
    target = busy.start(box)
    hit = set()
    for name in [n for n in names if not n.startswith("restore.")]:
        for how in ("fail", "kill"):
            image = os.path.join(box.dir, f"image-{name}-{how}")
            res = box.run_ckpt("dump", "-t", target.pid, "-D", image,
                               env=dict(os.environ, CKPT_FAULT=f"{name}:{how}"))
            if res.code == 0:
                shutil.rmtree(image)
                continue
            hit.add(name)
            check(res.code == (-9 if how == "kill" else 1), f"{name}:{how}: {res}")
            if how == "fail":
                check(re.match(r"ckpt: E-[A-Z-]+: ", res.err), f"one clear error: {res}")
                check(not os.path.exists(image) or not os.listdir(image), f"{name}: litter in {image}")
            busy.lives(box, target, f"after {name}:{how}")
            box.wait(lambda: not busy.foreign_maps(target), f"the arena is unmapped after {name}:{how}")
            shutil.rmtree(image, ignore_errors=True)
    box.dump(target, "--kill")
    for name in [n for n in names if n.startswith("restore.")]:
        for how in ("fail", "kill"):
            before = set(pids())
            res = box.run_ckpt("restore", "-D", box.image, "--detach",
                               env=dict(os.environ, CKPT_FAULT=f"{name}:{how}"))
            check(res.code == (-9 if how == "kill" else 1), f"{name}:{how}: {res}")
            hit.add(name)
            box.wait(lambda: set(pids()) <= before, f"nothing is left after {name}:{how}")
    missed = [n for n in names if n not in hit]
    check(not missed, f"fault points that no flow reaches: {missed}")
    box.restore()
    busy.lives(box, target, "after the restore")
    target.finish()


main(body)
