# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=150
"""The init (pid 1) of a pid namespace with all below it, as unshare --pid --fork --mount-proc makes it: saved from outside,
killed, restored as the init of a new one, and that again. Orphans and zombies are still its own; increments work. What
cannot come back is refused by name."""
import os
import re
import signal

from inits import inner, start_init
from sandbox import check, main, read, state, tree

PROGRAMS = ("task_tree", "task_daemon", "task_seccomp", "fd_pidfd", "fd_unix_listen", "fd_pty_ctty", "vma_memfd", "task_timers")


def restore(box, target, image, *args):
    res = box.restore(*args, image=image)
    target.pid = int(re.search(r"restored process (\d+)", res.out).group(1))
    check(inner(target.pid) == 1, f"it is pid {inner(target.pid)} of its namespace")
    check(os.readlink(f"/proc/{target.pid}/ns/pid") != os.readlink("/proc/self/ns/pid"), "a pid namespace of its own")


def numbers(target):
    return sorted((inner(p), state(p) == "Z") for p in tree(target.pid))


def proc_mount(pid):
    return [l.split(" ", 3)[3] for l in read(f"/proc/{pid}/mountinfo").splitlines() if l.split()[4] == "/proc"][-1]


def end_of_first(box, target):
    """unshare waits for a program that was not restored."""
    os.kill(target.pid, signal.SIGTERM)
    box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), f"end of {target.name}")
    check(read(target.file("result")) == "pass\n", f"no verdict{target.why()}")


def body(box):
    for name in PROGRAMS:
        target = start_init(box, name, "--mount-proc")
        was, proc = numbers(target), proc_mount(target.pid)
        for turn in range(2):
            image = f"{box.image}-{name}-{turn}"
            box.dump(target, "--kill", image=image)
            restore(box, target, image, *(["--pidns"] if turn else []))
            check(numbers(target) == was, f"{name}: its processes are {numbers(target)}, they were {was}")
            check(proc_mount(target.pid) == proc, f"{name}: /proc is {proc_mount(target.pid)}, it was {proc}")
            listed = sorted(int(p) for p in os.listdir(f"/proc/{target.pid}/root/proc") if p.isdigit())
            check(listed == [p for p, _ in was], f"{name}: its /proc has {listed}, not {was}")
        target.finish()

    target = start_init(box, "task_simple", "--mount-proc")
    first, second = f"{box.image}-i1", f"{box.image}-i2"
    res = box.run_ckpt("check", "-t", target.pid, "--to", f"unix:{box.dir}/nobody")
    check(res.code == 3 and "does not migrate" in res.out, f"it does not migrate: {res}")
    box.dump(target, "--track", image=first)
    box.dump(target, "--parent", first, "--kill", image=second)
    shown = box.run_ckpt("show", "-D", second).out
    check("namespaces of its own: pid" in shown, f"show tells: {shown}")
    restore(box, target, second)
    target.finish()

    target = start_init(box, "fd_eventfd")
    box.refused(target, "E-UNSUPPORTED", "its /proc is that of another one", image=box.image + "-noproc")
    end_of_first(box, target)
    target = start_init(box, "fd_pipe", "--mount-proc=/mnt")
    box.refused(target, "E-UNSUPPORTED", "namespace", image=box.image + "-mnt")
    end_of_first(box, target)


main(body)
