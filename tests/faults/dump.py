# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300
"""Every fault point of a dump: ckpt fails, dies and is stopped there; the program is unharmed, and
nothing is left (tests/faults/_invariants.py)."""
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import busy  # noqa: E402
from _invariants import RANDOM, Program, World, ckpt_maps, no_half_image, points, points_of, unmet, walk_of, SWITCHES  # noqa: E402
from _walk import HOWS, disturb, one_clear_error, private_world  # noqa: E402
from sandbox import BUILD, check, describe, main, tree  # noqa: E402

# Threads; a tree of processes that stand still; descriptors in flight; a seccomp filter.
BETWEEN = "inject.asked"        # a thread has left the arena, the next has not entered it
OTHERS = ("task_tree", "fd_unix_scm", "task_seccomp")


def walk(box, target, names, hows, hit):
    program = Program(box, target, churns=target.name == "busy")
    # Written by the program itself, and by ckpt on the test's behalf.
    world = World(box, ours=(target.dir,))
    for point in names:
        for how in hows:
            what = f"{target.name}: {point}:{how}"
            image = os.path.join(box.dir, "image")
            # A random walk does not kill ckpt inside of the one that strict seccomp confines.
            first = 1 if target.name == "task_seccomp" and point.startswith("inject.") else None
            res = disturb(box, point, how, "dump", "-t", target.pid, "-D", image, turn=first)
            if res.met:
                hit.add(point)
            if res.met and how == "kill":
                check(res.code == -9, f"{what}: {res}")
            elif res.code:
                check(how == "fail", f"{what}: {res}\n{describe(target.pid)}")
                one_clear_error(res, what)
                check(not os.path.exists(image), f"{what}: {image} is left")
            between = how == "kill" and (point == BETWEEN or (RANDOM and point.startswith("inject.")))
            program.unharmed(what, arena=(2 if RANDOM else 1) if between else 0)
            no_half_image(box, image, what)
            shutil.rmtree(image, ignore_errors=True)
            if any(ckpt_maps(p) for p in tree(target.pid)):
                box.dump(target, image=image)
                shutil.rmtree(image)
                program.unharmed(f"{what}, and a dump")
            world.clean(what)
    return program


def body(box):
    private_world()
    check(points(), "the test build names its fault points")
    lost = [p for p in points() if p not in SWITCHES and not walk_of(p)]
    check(not lost, f"no script in tests/faults walks {lost}")
    names, hit = points_of("dump"), set()
    target = busy.start(box)
    walk(box, target, names, HOWS, hit)
    busy.lives(box, target, "after the walk")
    target.finish()
    for name in OTHERS:
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name).wait_ready()
        walk(box, target, names, ("fail", "kill"), hit)
        # What was disturbed so often can still be moved, and then verifies itself.
        box.dump(target, "--kill", image=os.path.join(box.dir, f"{name}-last"))
        box.restore(image=os.path.join(box.dir, f"{name}-last"))
        target.finish()
        shutil.rmtree(os.path.join(box.dir, f"{name}-last"))
    missed = unmet(names, hit)
    check(not missed, f"points that no dump meets: {missed}")


main(body)
