#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Packed checkpoints come back, take part in chains, and are smaller where memory can be packed."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import BUILD, check, main  # noqa: E402

PROGRAMS = ("task_simple", "task_thread", "vma_shmem", "vma_many", "vma_cow")


def pages_size(image):
    return os.stat(os.path.join(image, "pages")).st_blocks * 512


def differences(box, a, b):
    res = box.run_ckpt("diff", a, b, "--json")
    check(res.code == 0, f"diff: {res}")
    pages = json.loads(res.out)["pages"]
    return {k: v for k, v in pages.items() if k != "same" and k != "equal" and v}


def round_trip(box, prog, how):
    image = os.path.join(box.dir, f"{prog}-{how}")
    target = box.start(os.path.join(BUILD, "tests/kind", prog), subdir=f"{prog}-{how}-run")
    target.wait_ready()
    box.dump(target, "--kill", "--compress", how, image=image)
    res = box.run_ckpt("verify", "-D", image)
    check(res.code == 0, f"verify: {res}")
    box.restore(image=image)
    target.finish()


def chain(box):
    """A chain of packed and plain checkpoints, folded in each way, is the same checkpoint."""
    target = box.start(os.path.join(BUILD, "tests/kind/task_simple"), subdir="chain")
    target.wait_ready()
    names = [os.path.join(box.dir, f"chain{i}") for i in range(4)]
    for i, how in enumerate(("lz4", "none", "zstd", "lz4")):
        more = ("--parent", names[i - 1]) if i else ("--track",)
        box.dump(target, "--compress", how, *more, image=names[i])
    plain, small = os.path.join(box.dir, "plain"), os.path.join(box.dir, "small")
    for out, how in ((plain, "none"), (small, "zstd")):
        res = box.run_ckpt("merge", "-D", names[3], "-o", out, "--compress", how)
        check(res.code == 0, f"merge: {res}")
        check(not differences(box, names[3], out), f"{out} differs from the chain")
    check(pages_size(small) * 2 < pages_size(plain),
          f"packed {pages_size(small)} bytes, plain {pages_size(plain)}")
    os.kill(target.pid, 9)
    box.wait_pid(target.pid, "the target is gone")
    box.status.pop(target.pid, None)
    box.restore(image=small)
    target.finish()


def body(box):
    for prog in PROGRAMS:
        for how in ("lz4", "zstd"):
            round_trip(box, prog, how)
    chain(box)
    res = box.run_ckpt("dump", "-t", os.getpid(), "-D", os.path.join(box.dir, "no"), "--compress", "gzip")
    check(res.code == 2 and "none, lz4 or zstd" in res.err, f"{res}")


main(body)
