# SPDX-License-Identifier: GPL-2.0-only
"""Programs in pid namespaces of their own."""
import os

from sandbox import BUILD, Target, check, read, tree


def inner(pid):
    """Its number in the innermost pid namespace; 0 when it is gone."""
    text = read(f"/proc/{pid}/status").partition("NSpid:")[2].split("\n")[0].split()
    return int(text[-1]) if text else 0


def start_init(box, name, *unshare):
    """A test program as the init (pid 1) of a pid namespace, in a session of its own. unshare(1) waits for it."""
    where = os.path.join(box.dir, name + "-init")
    os.mkdir(where)
    with open(os.path.join(where, "log"), "w") as log:
        outer = box.spawn(["unshare", "--pid", "--fork", *unshare, "--", "setsid",
                           os.path.join(BUILD, "tests/kind", name), where], log, log)
    outer.returncode = 0
    box.wait(lambda: os.path.exists(os.path.join(where, "ready")) or outer.pid in box.status, f"{name} is ready")
    kids = tree(outer.pid)[1:]
    check(kids and inner(kids[0]) == 1, f"{name} is pid 1: {kids} {read(os.path.join(where, 'log'))}")
    return Target(box, kids[0], where, name)
