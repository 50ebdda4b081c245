# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""Every program that tests a kind of memory, through a tracked checkpoint and an increment instead of one full dump."""
import glob
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, ROOT, Failure, Skip, check, main, read  # noqa: E402


def one(box, name):
    target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name)
    try:
        target.wait_ready()
    except Skip as e:
        box.log(f"{name}: {e}")
        return False
    full, inc = (os.path.join(box.dir, f"{name}-{n}") for n in ("full", "inc"))
    box.dump(target, "--track", image=full)
    res = box.dump(target, "--parent", full, "--kill", image=inc)
    check("full checkpoint" not in res.err, f"{res}")
    box.restore(image=inc)
    target.finish()
    return True


def body(box):
    done = 0
    for source in sorted(glob.glob(os.path.join(ROOT, "tests/kind/vma_*.c"))):
        text = read(source)
        if any(o in text for o in ("refuse=", "uid=", "dump=", "restore=")) or ("modes=" in text and ",kill" not in text):
            continue
        name = os.path.basename(source)[:-2]
        try:
            done += one(box, name)
        except Failure as e:
            raise Failure(f"{name}: {e}") from e
    check(done > 10, f"programs that ran: {done}")


main(body)
