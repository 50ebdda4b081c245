# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=400
"""Every fault point of tracking, increments, folding and periodic dumps: ckpt or its keeper fails, dies
or is stopped there. The program is unharmed, the next checkpoint is whole (a full one that says so, when
tracking was lost), and when the session ends nothing of it is left."""
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import busy  # noqa: E402
from _invariants import Program, World, no_half_image, points_of, unmet, watched  # noqa: E402
from _walk import HOWS, continuing, disturb, one_clear_error, private_world  # noqa: E402
from sandbox import BUILD, check, main, tree  # noqa: E402
from series import bases, complete, keepers, litter  # noqa: E402

FULL = "this is a full checkpoint"


def body(box):
    private_world()
    target = busy.start(box)
    names, hit = points_of("track"), set()
    program = Program(box, target, churns=True)

    def image(name):
        return os.path.join(box.dir, name)

    def ckpt(*args):
        return box.run_ckpt(*args[:1], "-t", target.pid, *args[1:])

    def stop(what):
        """End the session, if there is one; then nothing of it is left."""
        box.run_ckpt("track", "stop", "-t", target.pid)
        box.wait(lambda: not any(watched(p) for p in tree(target.pid)), f"{what}: nobody watches the program", 10)
        program.unharmed(what)
        world.clean(what)

    def clear():
        for name in ("a", "b", "c"):
            shutil.rmtree(image(name), ignore_errors=True)

    def judge(res, how, what, codes=(1,)):
        if res.met:
            hit.add(what.split()[1].rpartition(":")[0])
        if res.code == -9:
            check(how == "kill" and res.met, f"{what}: {res}")
        elif res.code:
            # Of a dead or stopped keeper ckpt hears nothing more.
            check(how != "stop" and res.met, f"{what}: {res}")
            check(res.code in codes, f"{what}: {res}")
            one_clear_error(res, what)

    check(box.run_ckpt("track", "start", "-t", target.pid).code == 0, "start")      # makes /run/ckpt
    check(box.run_ckpt("track", "stop", "-t", target.pid).code == 0, "stop")
    box.wait(lambda: program.wrong() is None, "a session leaves nothing")
    world = World(box, ours=(target.dir,))

    def turn(point, how):
        what = f"start {point}:{how}"
        judge(disturb(box, point, how, "track", "start", "-t", target.pid), how, what, (1, 3))
        busy.lives(box, target, what)
        stop(what)

        what = f"dump {point}:{how}"
        ahead = ("--pre",) if point == "track.pre" else ()
        judge(disturb(box, point, how, "dump", "-t", target.pid, "-D", image("a"), "--track", *ahead), how, what, (1, 3))
        no_half_image(box, image("a"), what)
        busy.lives(box, target, what)
        # Whatever became of the session, the next two checkpoints are whole.
        parent = image("a") if os.path.exists(os.path.join(image("a"), "inventory")) else None
        res = ckpt("dump", "-D", image("b"), *(("--parent", parent) if parent else ("--track",)))
        if res.code == 3:   # a keeper that has lost its session refuses, with the remedy
            stop(what)
            res = ckpt("dump", "-D", image("b"), "--track")
        check(res.code == 0, f"{what}: the next checkpoint: {res}")
        res = ckpt("dump", "-D", image("c"), "--parent", image("b"))
        check(res.code == 0 and (FULL not in res.err or point.startswith("keeper.")), f"{what}: the one behind it: {res}")
        check(box.run_ckpt("verify", "-D", image("c")).code == 0, f"{what}: verify")
        clear()
        stop(what)

        # An increment is disturbed; the session was made without the fault.
        what = f"increment {point}:{how}"
        res = ckpt("dump", "-D", image("a"), "--track")
        check(res.code == 0, f"{what}: {res}")
        res = disturb(box, point, how, "dump", "-t", target.pid, "-D", image("b"), "--parent", image("a"), *ahead)
        judge(res, how, what, (1, 3))
        no_half_image(box, image("b"), what)
        whole = os.path.exists(os.path.join(image("b"), "inventory"))
        lost = res.met and (how != "stop")
        res = ckpt("dump", "-D", image("c"), "--parent", image("b" if whole else "a"))
        check(res.code == 0, f"{what}: the next checkpoint: {res}")
        check(FULL in res.err or not lost or point == "track.began", f"{what}: tracking was lost, unsaid: {res}")
        check(box.run_ckpt("verify", "-D", image("c")).code == 0, f"{what}: verify")
        clear()
        stop(what)

    for point in names:
        for how in HOWS:
            # A keeper keeps the fault as long as it lives.
            with continuing(how):
                turn(point, how)
    folding(box, target, image, disturb, judge, stop, clear)
    periodic(box, image, names, judge, stop)
    keeper_dies(box, target, image, stop, clear)
    target.finish()
    missed = unmet(names, hit)
    check(not missed, f"points that nothing meets: {missed}")


def folding(box, target, image, disturb, judge, stop, clear):
    for how in HOWS:
        what = f"merge merge.pages:{how}"
        check(box.dump(target, "--track", image=image("a")).code == 0, what)
        check(box.dump(target, "--parent", image("a"), image=image("b")).code == 0, what)
        res = disturb(box, "merge.pages", how, "merge", "-D", image("b"), "-o", image("c"))
        judge(res, how, what)
        no_half_image(box, image("c"), what)
        if res.code:
            check(how == "kill" or not os.path.exists(image("c")), f"{what}: litter")
        shutil.rmtree(image("c"), ignore_errors=True)
        res = box.run_ckpt("merge", "-D", image("b"), "-o", image("c"))
        check(res.code == 0 and box.run_ckpt("verify", "-D", image("c")).code == 0, f"{what}: again: {res}")
        clear()
        stop(what)


def periodic(box, image, names, judge, stop):
    """Of a program that writes so much that its chain is folded, and knows what its memory must hold."""
    target = box.start(os.path.join(BUILD, "tests/flow/mutate"), subdir="mutate").wait_ready()
    series = image("every")
    for how in HOWS:
        for point in (p for p in names if p.startswith(("every.", "track.commit"))):
            what = f"every {point}:{how}"
            args = ("--every", "1ms", "--keep", "2", "-D", series)
            # A fold that failed is tried again later: what is there stays right.
            judge(disturb(box, point, how, "dump", "-t", target.pid, *args, "--count", "24"), how, what, (0, 1))
            res = box.run_ckpt("dump", "-t", target.pid, *args, "--count", "2")
            check(res.code == 0, f"{what}: goes on: {res}")
            check(not litter(series), f"{what}: litter: {litter(series)}")
            for name in [*bases(series), *(f"{n:06d}" for n in complete(series)[-2:])]:
                check(box.run_ckpt("verify", "-D", os.path.join(series, name)).code == 0, f"{what}: {name}")
            shutil.rmtree(series)
            box.run_ckpt("track", "stop", "-t", target.pid)
    target.finish()
    shutil.rmtree(target.dir)
    stop("periodic")


def keeper_dies(box, target, image, stop, clear):
    box.dump(target, "--track", image=image("a"))
    keeper, = keepers()
    os.kill(keeper, signal.SIGKILL)
    box.wait(lambda: not keepers(), "end of the keeper")
    res = box.dump(target, "--parent", image("a"), image=image("b"))
    check(FULL in res.err, f"the keeper was killed: {res}")
    clear()
    stop("keeper killed")


main(body)
