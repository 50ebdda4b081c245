# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""dump --every: numbered checkpoints with retention and bounded chains, continued after a kill -9 at any instant; what
is there when the command ends can be restored."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main  # noqa: E402
from series import bound, chain, complete, litter  # noqa: E402

KEEP = 3


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/mutate")).wait_ready()
    series = os.path.join(box.dir, "series")
    rng = random.Random(5)

    def numbers():
        return sorted(int(n) for n in os.listdir(series) if n.isdigit())

    def whole(n):
        return box.run_ckpt("verify", "-D", f"{series}/{n:06d}").code == 0

    # Long enough for a fold or two.
    res = box.run_ckpt("dump", "-t", target.pid, "-D", series, "--every", "1ms", "--keep", KEEP, "--count", 40)
    check(res.code == 0 and res.out.count("saved process") == 40, f"{res}")
    check("full checkpoint" not in res.err and "not folded" not in res.err, f"{res}")
    have = numbers()
    check(have[-1] == 40 and have[-KEEP:] == [38, 39, 40], f"the newest are kept: {have}")
    check(len(os.listdir(series)) <= bound(KEEP), f"the chain is bounded: {os.listdir(series)}")
    check("000001" not in chain(f"{series}/latest"), f"the first one was folded: {chain(series + '/latest')}")
    check(not litter(series), f"litter: {litter(series)}")
    check(os.readlink(f"{series}/latest") == "000040", "latest")
    for n in have[-KEEP:]:
        check(whole(n), f"checkpoint {n} is whole")

    # Killed at random instants, it is continued.
    for i in range(12):
        log = open(os.path.join(box.dir, "every.log"), "w")
        p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", series, "--every", "1ms", "--keep", str(KEEP)],
                      log, log)
        log.close()
        before = have[-1]
        # What one that was killed has left is none.
        box.wait(lambda: complete(series)[-1] > before, "a checkpoint")
        try:
            box.wait_pid(p.pid, "chance", timeout=rng.random() * 0.4)
        except Exception:
            pass
        os.kill(p.pid, signal.SIGKILL if i % 3 else signal.SIGTERM)
        status = box.wait_pid(p.pid, "end of ckpt")
        p.returncode = 0
        check(status in (0, signal.SIGKILL), f"wait status {status:#x}")
        # What was being written is not a checkpoint, and is removed by the next run.
        have = complete(series)
        check(have and whole(have[-1]), f"the newest is whole: {numbers()}")

    # Nothing but the last and its chain is needed.
    os.kill(target.pid, 0)
    box.end_tree(target.pid)
    for n in have[-KEEP:][::-1]:
        if not whole(n):
            continue
        if os.path.exists(target.file("result")):
            os.unlink(target.file("result"))
        box.restore(image=f"{series}/{n:06d}")
        target.finish()


main(body)
