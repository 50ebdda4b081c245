#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's records tell of threads is what the threads say themselves."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import BUILD, Skip, check, main  # noqa: E402


def asked(res):
    """How many threads were sent in, of all; None: each."""
    found = [(int(all_), int(some)) for all_, some in re.findall(r"of (\d+) threads (\d+) were asked", res.err)]
    return max(found, default=None)


def compare(box, prog, most):
    target = box.start(os.path.join(BUILD, "tests/kind", prog), subdir=prog)
    target.wait_ready()
    images, seen = [], []
    for how in ("seen", "asked"):
        image = os.path.join(box.dir, f"{prog}-{how}")
        env = dict(os.environ, CKPT_FAULT="kern.threads:fail") if how == "asked" else None
        res = box.run([os.path.join(BUILD, "ckpt-test"), "dump", "-vv", "-t", str(target.pid), "-D", image], env=env, name=how)
        check(res.code == 0, f"{res}")
        images.append(image)
        seen.append(asked(res))
    check(seen[1] is None, f"with the fault point each is asked: {seen}")
    res = box.run_ckpt("diff", *images, "--json")
    check(res.code == 0, f"{res}")
    # Where the kernel tells a thread its processor is written when it goes on.
    differ = [x for x in json.loads(res.out)["differences"] if x["what"] != "pages"]
    check(not differ, f"{prog}: {differ}")
    if seen[0] is None:
        raise Skip("a kernel with BPF iterators of the threads of a process (Linux 6.1)")
    check(seen[0][1] <= most, f"{prog}: of {seen[0][0]} threads {seen[0][1]} were asked")
    target.finish()


def body(box):
    compare(box, "task_thread_many", 60)
    compare(box, "task_threads1000", 8)


main(body)
