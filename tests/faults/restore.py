# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300
"""Every fault point of a restore: ckpt fails, dies and is stopped there. The program is restored whole
or not there at all, nothing is left, and the same image can be restored afterwards."""
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import busy  # noqa: E402
from _invariants import Program, World, points_of, unmet  # noqa: E402
from _walk import HOWS, disturb, one_clear_error, private_world  # noqa: E402
from inits import start_init  # noqa: E402
from sandbox import BUILD, alive, check, main, pids, state, threads  # noqa: E402


# Nothing can fail there; it can be killed.
NO_WAY_BACK = ("restore.letting_go",)
# A removed file, a bound socket, a tree, a filter: what could leave litter.
OTHERS = ("fd_reg_unlinked", "fd_unix_listen", "task_tree", "task_seccomp", "vma_sysv")


def stop(box, target):
    """A stopped program comes back stopped, and does not change what a second restore needs."""
    os.kill(target.pid, signal.SIGSTOP)
    box.wait(lambda: all(state(target.pid, t) == "T" for t in threads(target.pid)), "all of it stands still")
    return Program(box, target)


def walk(box, target, image, hows, hit, *args):
    # Files of the program and System V segments are made by its restore: the copy of the first,
    # whole one is the measure, except for what runs.
    world = World(box, ours=(target.dir, image))
    for point in points_of("restore"):
        for how in hows:
            if point in NO_WAY_BACK and how == "fail":
                continue
            what = f"{target.name}{''.join(args)}: {point}:{how}"
            res = disturb(box, point, how, "restore", "-D", image, "--detach", *args)
            if res.met:
                hit.add(point)
            if res.code == 0:
                check(how == "stop" or not res.met, f"{what}: {res}")
                copy = busy_pid(box, target, args)
                check(alive(copy), f"{what}: it is not there, and ckpt says it is")
                box.end_tree(copy)
            else:
                # Of --pidns the init dies, and elsewhere it may be the guard: then ckpt says so.
                check(res.code == (-9 if how == "kill" and not res.err else 1), f"{what}: {res}")
                if res.code == 1:
                    one_clear_error(res, what)
            world.clean(what)


def busy_pid(box, target, args):
    if "--pidfile" not in args:
        return target.pid
    with open(os.path.join(box.dir, "pidfile")) as f:
        return int(f.read())


def body(box):
    private_world()
    names, hit = points_of("restore"), set()
    target = busy.start(box)
    program = stop(box, target)
    box.dump(target, "--kill")
    walk(box, target, box.image, HOWS, hit)
    pidfile = os.path.join(box.dir, "pidfile")
    open(pidfile, "w").close()
    walk(box, target, box.image, ("fail", "kill"), hit, "--pidns", "--pidfile", pidfile)
    box.restore()
    program.unharmed("after the walk", moved=True)
    os.kill(target.pid, signal.SIGCONT)
    busy.lives(box, target, "after the walk")
    target.finish()
    for name in OTHERS:
        image = os.path.join(box.dir, f"image-{name}")
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name).wait_ready()
        program = Program(box, target)
        box.dump(target, "--kill", image=image)
        walk(box, target, image, ("fail", "kill"), hit)
        box.restore(image=image)
        program.unharmed(f"{name}: after the walk", moved=True)
        target.finish()
        box.wait(lambda: not [p for p in pids() if p > 2 and p != os.getpid()], f"{name}: all of it has ended")
        shutil.rmtree(image)
    # The init of a pid namespace of its own.
    image = os.path.join(box.dir, "image-init")
    target = start_init(box, "task_tree", "--mount-proc")
    box.dump(target, "--kill", image=image)
    walk(box, target, image, ("fail", "kill"), hit, "--pidfile", pidfile)
    box.restore("--pidfile", pidfile, image=image)
    target.pid = busy_pid(box, target, ("--pidfile",))
    target.finish()
    missed = unmet(names, hit)
    check(not missed, f"points that no restore meets: {missed}")


main(body)
