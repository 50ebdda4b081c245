# SPDX-License-Identifier: GPL-2.0-only
"""Watching tests/flow/busy.c from outside."""
import os
import struct

from sandbox import BUILD, check, read, state, threads

COUNTERS = "cpu vector sleep ping pong wait post tick memory threads poll".split()


def start(box, subdir=None):
    return box.start(os.path.join(BUILD, "tests/flow/busy"), subdir=subdir).wait_ready()


def progress(target):
    with open(target.file("progress"), "rb") as f:
        return struct.unpack(f"{len(COUNTERS)}Q", f.read(8 * len(COUNTERS)))


def lives(box, target, why):
    """Every thread goes on: no tracer, no stop, and each counter moves."""
    before = progress(target)

    def moved():
        box.reap()
        check(os.path.exists(f"/proc/{target.pid}"),
              f"the program ended with {box.status.get(target.pid, -1):#x} {why}{target.why()}")
        return all(a > b for a, b in zip(progress(target), before))
    box.wait(moved, f"all go on {why}", 20, step=0.001)
    for tid in threads(target.pid):
        status = read(f"/proc/{target.pid}/task/{tid}/status")
        check(not status or "TracerPid:\t0\n" in status, f"thread {tid} is traced {why}")
        check(state(target.pid, tid) not in ("t", "T"), f"thread {tid} is stopped {why}")


def foreign_maps(target):
    """Shared anonymous mappings: the program has none, ckpt's arena is one."""
    return [l for l in read(f"/proc/{target.pid}/maps").splitlines()
            if "/dev/zero" in l or "memfd:" in l or ("rwxs" in l)]
