# SPDX-License-Identifier: GPL-2.0-only
"""Runs ckpt's test build into one fault point in one of three ways, and sees that it was met."""
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time

from _invariants import RANDOM, TEST_BUILD
from sandbox import Failure, Result, check, pids, read, state

CLONE_NEWNET, CLONE_NEWIPC = 0x40000000, 0x08000000
# fail: an error comes back    kill: ckpt dies there    stop: ckpt is stopped there for a while
HOWS = ("fail", "kill", "stop")


def private_world():
    """Network and IPC namespaces a /run and a /dev/shm of our own, so that what is new there is ckpt's."""
    libc = ctypes.CDLL(None, use_errno=True)
    check(libc.unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0, f"namespaces: errno {ctypes.get_errno()}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for where in ("/run", "/dev/shm"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777" if where == "/dev/shm" else "mode=755", "tmpfs", where], check=True)


def stopped_ckpt():
    """Processes of the test build that the fault point stopped."""
    out = []
    for p in pids():
        try:
            if os.readlink(f"/proc/{p}/exe") == TEST_BUILD and state(p) == "T":
                out.append(p)
        except OSError:
            pass
    return out


def disturb(box, point, how, *args, env=None, turn=None):
    """ckpt ARGS with CKPT_FAULT=point:how, or only the @turn'th time; a stopped ckpt is continued. The result's .met
    tells whether the point was reached."""
    mark = os.path.join(box.dir, ".fault.met")
    if RANDOM:
        if not point.startswith("keeper."):     # it lives on, and with it the fault
            turn = turn or RANDOM.choice((None, None, None, 1, 1, 1, 2, 3, 9))
        time.sleep(RANDOM.choice((0, RANDOM.random() * 0.05)))
    env = dict(env or os.environ, CKPT_FAULT=f"{point}:{how}" + (f"@{turn}" if turn else ""), CKPT_FAULT_MET=mark)
    if os.path.exists(mark):        # a keeper of an earlier turn
        os.unlink(mark)
    outs = [os.path.join(box.dir, f".fault.{s}") for s in ("out", "err")]
    with open(outs[0], "w") as out, open(outs[1], "w") as err:
        p = box.spawn([TEST_BUILD, *map(str, args)], out, err, env=env)
    p.returncode = 0
    try:
        with continuing(how):
            code = os.waitstatus_to_exitcode(box.wait_pid(p.pid, f"end of ckpt at {point}:{how}"))
    except Failure:
        box.log(f"{point}:{how}: ckpt said: " + read(outs[0])[-2000:] + read(outs[1])[-4000:])
        raise
    res = Result(["ckpt-test", *map(str, args)], code, read(outs[0]), read(outs[1]), 0)
    res.met = os.path.exists(mark)
    for name in (*outs, mark):
        if os.path.exists(name):
            os.unlink(name)
    box.last = f"{point}:{how}: {res}"
    box.log(box.last)
    return res


def one_clear_error(res, what):
    check(res.code in (1, 3) and re.match(r"ckpt: E-[A-Z-]+: .*\n  → ", res.err), f"{what}: one clear error: {res}")
    check(res.err.count("ckpt: E-") == 1, f"{what}: one error: {res}")


@contextlib.contextmanager
def continuing(how="stop"):
    """Processes that stop at a fault point are continued meanwhile."""
    done = threading.Event()

    def watch():
        while not done.wait(0.01):
            for pid in stopped_ckpt():
                os.kill(pid, signal.SIGCONT)
    thread = threading.Thread(target=watch, daemon=True)
    if how == "stop":
        thread.start()
    try:
        yield
    finally:
        done.set()
        if how == "stop":
            thread.join()
