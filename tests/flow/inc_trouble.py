# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Periodic checkpoints on a file system that fills up, of a program that is killed, with a keeper that is killed: the
last complete checkpoint is restored and verifies itself, and the program is unharmed by all but its own end."""
import os
import random
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main, read  # noqa: E402
from series import complete, keepers  # noqa: E402

MUTATE = os.path.join(BUILD, "tests/flow/mutate")
ROUNDS = 2


def restored(box, target, series, what):
    """The newest complete checkpoint is whole, restores and verifies itself."""
    have = complete(series)
    check(have, f"{what}: there is a checkpoint")
    image = f"{series}/{have[-1]:06d}"
    res = box.run_ckpt("verify", "-D", image)
    check(res.code == 0, f"{what}: {res}")
    if os.path.exists(target.file("result")):
        os.unlink(target.file("result"))
    box.restore(image=image)
    target.finish()
    box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), f"{what}: end of the restored program")
    box.status.pop(target.pid, None)


def disk_full(box):
    target = box.start(MUTATE, subdir="full").wait_ready()
    disk = os.path.join(box.dir, "disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], check=True)
    series = os.path.join(disk, "series")
    res = box.run_ckpt("dump", "-t", target.pid, "-D", series, "--every", "1ms", "--keep", 3, "--count", 500,
                       timeout=100)
    check(res.code == 1 and "E-IMAGE-WRITE" in res.err, f"the disk fills up: {res}")
    have = complete(series)
    check(have, "there was room for one")
    check(box.run_ckpt("verify", "-D", f"{series}/{have[-1]:06d}").code == 0, "the newest is whole")
    # With more room it goes on where it was.
    subprocess.run(["mount", "-o", "remount,size=512m", disk], check=True)
    res = box.run_ckpt("dump", "-t", target.pid, "-D", series, "--every", "1ms", "--keep", 3, "--count", 4)
    check(res.code == 0 and complete(series)[-1] > have[-1], f"it goes on: {res}")
    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the program failed{target.why()}")
    box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the original")
    box.status.pop(target.pid, None)
    restored(box, target, series, "after a full disk")
    subprocess.run(["umount", "-l", disk], check=True)


def victim_ends(box, rng, which, nr):
    what = f"{which} killed, {nr}"
    target = box.start(MUTATE, subdir=f"{which}{nr}").wait_ready()
    series = os.path.join(box.dir, f"series-{which}{nr}")
    log_path = os.path.join(box.dir, "every.log")
    with open(log_path, "w") as log:
        p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", series, "--every", "1ms", "--keep", "3"],
                      log, log)
    box.wait(lambda: os.path.isdir(series) and len(complete(series)) >= 2, f"{what}: two checkpoints")
    try:
        box.wait_pid(p.pid, "chance", timeout=rng.random() * 0.3)
    except Exception:
        pass
    if which == "keeper":
        check(len(keepers()) == 1, f"{what}: keepers {keepers()}")
        os.kill(keepers()[0], signal.SIGKILL)
        before = complete(series)[-1]
        # Full again, or refused with the reason; then somebody starts the command again.
        box.wait(lambda: p.pid in box.status or complete(series)[-1] > before + 1, f"{what}: ckpt notices")
        if p.pid not in box.status:
            os.kill(p.pid, signal.SIGTERM)
            box.wait(lambda: p.pid in box.status, f"{what}: end of ckpt")
        res = box.run_ckpt("dump", "-t", target.pid, "-D", series, "--every", "1ms", "--keep", 3, "--count", 3)
        check(res.code == 0, f"{what}: {res}")
    box.end_tree(target.pid)
    box.wait(lambda: p.pid in box.status, f"{what}: end of ckpt")
    p.returncode = 0
    if which == "program":
        check(box.status[p.pid] in (0, 256), f"{what}: {box.status[p.pid]:#x} {read(log_path)[-1000:]}")
    restored(box, target, series, what)


def body(box):
    rng = random.Random(11)
    disk_full(box)
    for nr in range(ROUNDS):
        victim_ends(box, rng, "program", nr)
        victim_ends(box, rng, "keeper", nr)


main(body)
