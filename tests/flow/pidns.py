# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A program that was restored into a pid namespace is saved from outside of it, and restored in another one, again and
again; its pids are those it had. So is the init of such a namespace with all below it."""
import os
import re

from inits import inner
from sandbox import BUILD, check, main, read, tree


def body(box):
    target = box.start(os.path.join(BUILD, "tests/kind/task_tree")).wait_ready()
    was = sorted(tree(target.pid))
    pid = target.pid
    for turn in range(3):
        image = f"{box.image}{turn}"
        members = tree(pid)
        res = box.run_ckpt("dump", "-t", pid, "-D", image, "--kill")
        check(res.code == 0, f"dump {turn}: {res}")
        box.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in members), "end of the dumped processes")
        res = box.run_ckpt("restore", "-D", image, "--detach", "--pidns")
        check(res.code == 0, f"restore {turn}: {res}")
        pid = int(re.search(r"restored process (\d+)", res.out).group(1))
        check(sorted(map(inner, tree(pid))) == was, f"its pids are {sorted(map(inner, tree(pid)))}, they were {was}")
    parent = int(read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    check(inner(parent) == 1, "its parent is the init of the namespace")
    members = tree(parent)
    res = box.run_ckpt("dump", "-t", parent, "-D", box.image + "-init", "--kill")
    check(res.code == 0, f"dump of the init: {res}")
    box.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in members), "end of the dumped processes")
    res = box.restore(image=box.image + "-init")
    parent = int(re.search(r"restored process (\d+)", res.out).group(1))
    pid = [p for p in tree(parent) if inner(p) == target.pid][0]
    check(sorted(map(inner, tree(pid))) == was, f"its pids are {sorted(map(inner, tree(pid)))}, they were {was}")
    # Inside it is its own pid that it knows; its end is told by its init.
    os.kill(pid, 15)
    box.wait(lambda: not os.path.exists(f"/proc/{pid}"), "end of the program")
    check(read(target.file("result")) == "pass\n", f"no verdict{target.why()}")


main(body)
