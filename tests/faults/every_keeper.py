# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""The keeper is killed while a chain is folded: the fold stands, ckpt says that the next checkpoint is a full one, and goes
on. Program and keeper end together, and ckpt hears of the keeper first: the end of a program is the end of its series, and no
failure."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _invariants import TEST_BUILD  # noqa: E402
from _walk import stopped_ckpt  # noqa: E402
from sandbox import BUILD, check, main, read  # noqa: E402
from series import complete, keepers  # noqa: E402

MUTATE = os.path.join(BUILD, "tests/flow/mutate")

def every(box, target, name, fault, *args):
    """A series that comes to @fault in one of its processes: ckpt, what it says, the folder."""
    series, path = os.path.join(box.dir, f"series-{name}"), os.path.join(box.dir, f"{name}.log")
    with open(path, "w") as log:
        p = box.spawn([TEST_BUILD, "dump", "-t", str(target.pid), "-D", series, "--every", "1ms", *args], log, log,
                      env=dict(os.environ, CKPT_FAULT=fault))
    p.returncode = 0
    box.wait(lambda: stopped_ckpt() or p.pid in box.status, f"{fault}: {read(path)}", timeout=60)
    check(p.pid not in box.status, f"it ended before: {read(path)}")
    return p, path, series


def fold(box):
    target = box.start(MUTATE).wait_ready()
    p, path, series = every(box, target, "fold", "every.fold:stop")
    for keeper in keepers():
        os.kill(keeper, signal.SIGKILL)
        box.wait(lambda: not os.path.exists(f"/proc/{keeper}") or box.reap(), "end of the keeper")
    os.kill(p.pid, signal.SIGCONT)
    box.wait(lambda: p.pid in box.status or "saved process" in read(path).partition("full checkpoint of process")[2],
             "the full checkpoint", timeout=60)
    os.kill(p.pid, signal.SIGINT)
    status = box.wait_pid(p.pid, "end of ckpt")
    out = read(path)
    check(status == 0, f"the end of the series: {status:#x} {out}")
    check("was folded, but its tracking session has ended: the next checkpoint will be a full one" in out, out)
    check("not folded" not in out and out.count("full checkpoint of process") == 1, out)
    box.end_tree(target.pid)
    box.restore(image=f"{series}/{complete(series)[-1]:06d}")
    target.finish()


def both_end(box):
    target = box.start(MUTATE, subdir="both").wait_ready()
    # The keeper stops where the second checkpoint asks it to begin.
    p, path, series = every(box, target, "both", "keeper.begin:stop@2")
    check(stopped_ckpt() == keepers(), f"the keeper stands: {stopped_ckpt()}, {keepers()}")
    check(complete(series) == [1], f"one was made before: {complete(series)}")
    standing = keepers()
    box.end_tree(target.pid)
    for keeper in standing:
        os.kill(keeper, signal.SIGKILL)
    status = box.wait_pid(p.pid, "end of ckpt")
    out = read(path)
    check(status == 0 and "E-" not in out, f"the program has ended, and with it the series: {status:#x} {out}")
    for name in os.listdir(series):
        check(box.run_ckpt("verify", "-D", os.path.join(series, name)).code == 0, f"{name} is whole")


def body(box):
    fold(box)
    both_end(box)


main(body)
