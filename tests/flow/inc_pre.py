# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""dump --pre copies ahead while the program runs and changes everything, with and without a session, full and
increment; dump --max-pause gives up, or says that it took longer, and never harms the program."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main, tree  # noqa: E402

MUTATE = os.path.join(BUILD, "tests/flow/mutate")


def body(box):
    target = box.start(MUTATE).wait_ready()
    images = []

    def dump(*how):
        image = os.path.join(box.dir, f"i{len(images)}")
        res = box.dump(target, "--pre", "--json", *how, image=image)
        check("full checkpoint" not in res.err, f"{res}")
        stats = json.loads(res.out)["stats"]
        check(stats["pre_rounds"] and stats["pages_pre"] and stats["pre_us"], f"copied ahead: {stats}")
        images.append(image)
        return stats

    for compress in ("none", "lz4", "none"):
        dump("--compress", compress)
    stats = dump("--track")
    check(stats["pages_parent"] == 0, f"no parent: {stats}")
    for i in range(6):
        how = ("--compress", "lz4") if i == 3 else ()
        stats = dump("--parent", images[-1], *how)
        check(stats["pages_parent"], f"an increment: {stats}")

    # It cannot stand still for less than nothing.
    gone = os.path.join(box.dir, "gone")
    res = box.run_ckpt("dump", "-t", target.pid, "-D", gone, "--parent", images[-1], "--max-pause", "500us")
    if res.code:
        check(res.code == 1 and "longer than 0.5 ms (" in res.err and "E-PAUSE" in res.err and not os.path.exists(gone), f"{res}")
        late = os.path.join(box.dir, "late")
        res = box.dump(target, "--parent", images[-1], "--max-pause", 1, "--on-long-pause", "go", image=late)
        check("stood still for" in res.err, f"{res}")
        images.append(late)
    else:
        box.log("the pause was shorter than that")
        images.append(gone)
    res = box.dump(target, "--parent", images[-1], "--max-pause", "0.5m", image=os.path.join(box.dir, "in-time"))
    check("full checkpoint" not in res.err and "stood still for" not in res.err, f"{res}")
    check(box.run_ckpt("dump", "-t", target.pid, "-D", gone + "2", "--max-pause", "soon").code == 2, "usage")
    res = box.run_ckpt("dump", "-t", target.pid, "-D", gone + "2", "--pre", "--tracker", "none")
    check(res.code == 3 and "E-TRACK" in res.err, f"{res}")

    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the program failed{target.why()}")
    for image in images:
        target.holds(image)
    check(len(tree(target.pid)) == 1, "it ended")


main(body)
