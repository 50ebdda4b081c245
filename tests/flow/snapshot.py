# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A program that writes without pause is copied while it runs: the copy is of one instant."""
import os
import signal

from sandbox import BUILD, check, main, pids, read


def copies(box, target):
    """Processes that look like the target but are not it: snapshots that were left behind."""
    return [p for p in pids() if p != target.pid and read(f"/proc/{p}/comm") == read(f"/proc/{target.pid}/comm")]


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/snapshot_writer"))
    target.wait_ready()
    for turn in range(4):
        image = box.image + str(turn)
        res = box.dump(target, "-v", image=image)
        check("stands still: " not in res.err, f"a snapshot was taken: {res}")
        box.wait(lambda: not copies(box, target), "the snapshot is gone")
    # The program goes on from the copy, which was made while it wrote.
    for turn in range(2, 4):
        os.kill(target.pid, signal.SIGKILL)
        box.wait_pid(target.pid, "end of the target")
        box.restore(image=box.image + str(turn))
    # ckpt dies at the worst moments: nothing is left, the program goes on.
    test = os.path.join(BUILD, "ckpt-test")
    for point in ("dump.snapshot", "dump.pages", "dump.thawed"):
        image = box.image + point
        res = box.run([test, "dump", "-t", str(target.pid), "-D", image],
                      env=dict(os.environ, CKPT_FAULT=f"{point}:kill"), name="kill")
        check(res.code != 0, f"the fault {point} was met: {res}")
        box.wait(lambda: not copies(box, target), f"the snapshot is gone after {point}")
    target.finish()


main(body)
