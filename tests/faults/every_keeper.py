# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""The keeper is killed while a chain is folded: the fold stands, ckpt says that the next checkpoint is a full one, and goes
on."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _walk import stopped_ckpt  # noqa: E402
from sandbox import BUILD, check, main, pids, read  # noqa: E402

COUNT = 20


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/mutate")).wait_ready()
    series, path = os.path.join(box.dir, "series"), os.path.join(box.dir, "every.log")
    with open(path, "w") as log:
        p = box.spawn([os.path.join(BUILD, "ckpt-test"), "dump", "-t", str(target.pid), "-D", series, "--every", "1ms",
                       "--count", str(COUNT)], log, log, env=dict(os.environ, CKPT_FAULT="every.fold:stop"))
    p.returncode = 0
    box.wait(lambda: p.pid in stopped_ckpt() or p.pid in box.status, f"the fold: {read(path)}", timeout=60)
    check(p.pid not in box.status, f"it ended before: {read(path)}")
    for keeper in [k for k in pids() if read(f"/proc/{k}/comm").strip() == "ckpt-keeper"]:
        os.kill(int(keeper), signal.SIGKILL)
        box.wait(lambda: not os.path.exists(f"/proc/{keeper}") or box.reap(), "end of the keeper")
    os.kill(p.pid, signal.SIGCONT)
    status = box.wait_pid(p.pid, "end of ckpt")
    out = read(path)
    check(status == 0 and out.count("saved process") == COUNT, f"{COUNT} checkpoints: {status:#x} {out}")
    check("was folded, but its tracking session has ended: the next checkpoint will be a full one" in out, out)
    check("not folded" not in out and out.count("full checkpoint of process") == 1, out)
    box.end_tree(target.pid)
    box.restore(image=f"{series}/{COUNT:06d}")
    target.finish()


main(body)
