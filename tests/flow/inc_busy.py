# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Increments of a program that writes a part of its memory without pause: each is of one instant, also when its pages
are copied after the program was let go on (the module keeps them; where its pool is too small, before that)."""
import os
import signal

from sandbox import BUILD, check, main, read

TURNS = 6
PAGES = 1500  # that it writes


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/snapshot_writer"), str(PAGES))
    target.wait_ready()
    pool = "/sys/kernel/ckpt/cow_pool_pages"
    module = os.path.exists(pool)
    roomy = module and int(read(pool)) >= 2 * PAGES
    for turn in range(TURNS):
        how = ["--parent", box.image + str(turn - 1)] if turn else ["--track"]
        res = box.dump(target, "-v", *how, image=box.image + str(turn))
        check("full checkpoint" not in res.err, f"increment {turn} became a full one: {res}")
        if turn and module:
            check(("what its tracker keeps" in res.err) == roomy, f"whether the pages of increment {turn} were kept: {res}")
    for turn in (1, TURNS - 1):
        os.kill(target.pid, signal.SIGKILL)
        box.wait_pid(target.pid, "end of the target")
        check(box.run_ckpt("verify", "-D", box.image + str(turn)).code == 0, f"increment {turn} is whole")
        box.restore(image=box.image + str(turn))
    target.finish()


main(body)
