# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""ckpt is killed while its guard holds and lets go of a tree: until it was decided to let go nothing is left, and from
then on all of it runs. The guard is killed in the same places: ckpt ends what there is."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _invariants import Program, World  # noqa: E402
from _walk import disturb, one_clear_error, private_world  # noqa: E402
from sandbox import BUILD, check, main, pids, tree  # noqa: E402

PROGRAMS = ("task_tree", "task_daemon", "task_seccomp")
BEFORE = ("restore.seized", "restore.unmapped", "restore.release")
BEHIND = ("restore.decided", "restore.letting_go")


def body(box):
    private_world()
    for name in PROGRAMS:
        image = os.path.join(box.dir, f"image-{name}")
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name).wait_ready()
        program = Program(box, target)
        members = sorted(tree(target.pid))
        box.dump(target, "--kill", image=image)
        world = World(box, ours=(target.dir, image))
        for point in (*BEFORE, *BEHIND):
            for how in ("orphan", "kill"):
                what = f"{name}: {point}:{how}"
                res = disturb(box, point, how, "restore", "-D", image, "--detach", turn=1)
                check(res.met, f"{what}: it was not met")
                if how == "kill":
                    check(res.code == 1, f"{what}: {res}")
                    one_clear_error(res, what)
                else:
                    check(res.code == -9, f"{what}: {res}")
                if how == "orphan" and point in BEHIND:
                    program.unharmed(what, moved=True)
                    # The guard is gone, too.
                    box.wait(lambda: set(pids()) - world.before["processes"] == set(members),
                             f"{what}: nothing but the tree")
                    box.end_tree(target.pid)
                world.clean(what)
        box.restore(image=image)
        program.unharmed(f"{name}: in the end", moved=True)
        target.finish()


main(body)
