# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""An increment of a program that wrote much copies ahead by itself, without a stop; of pages that are written or dropped
meanwhile the newest counts. Not with --no-pre, and not when little was written."""
import json
import os
import signal
import struct
import time

from sandbox import BUILD, Skip, check, main

AT, LARGE = 0x640000000000, 16 << 20    # of flow/flat


def at_rest(box):
    """Much was written since a parent that was made just before, and nothing is written any more."""
    target = box.start(os.path.join(BUILD, "tests/flow/flat"), "64", subdir="rest").wait_ready()
    with open(f"/proc/{target.pid}/mem", "r+b", buffering=0) as mem:
        for i in range(18):
            os.pwrite(mem.fileno(), struct.pack("<Q", 4711), AT + i * ((64 << 8) // 18) * 4096)
    images = [os.path.join(box.dir, f"rest{i}") for i in range(4)]
    for i, image in enumerate(images):
        res = box.run_ckpt("dump", "-t", target.pid, "-D", image, "--json", *(("--parent", images[i - 1]) if i else ("--track",)))
        check(res.code == 0, f"{res}")
        stats = json.loads(res.out)["stats"]
        check(not i or int(stats["pages_pre"]) >= LARGE >> 12, f"it is copied ahead: {stats}")
        with open(f"/proc/{target.pid}/mem", "r+b", buffering=0) as mem:
            same = os.pread(mem.fileno(), LARGE, AT)
            check(os.pwrite(mem.fileno(), same, AT) == LARGE, "written")
    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the program failed{target.why()}")
    target.holds(images[-1])


def body(box):
    tracker = os.environ.get("T_TRACKER")
    target = box.start(os.path.join(BUILD, "tests/flow/hot"), "32").wait_ready()
    images = []

    def dump(*how):
        image = os.path.join(box.dir, f"i{len(images)}")
        how += ("--parent", images[-1]) if images else ("--track", *(("--tracker", tracker) if tracker else ()))
        res = box.run_ckpt("dump", "-t", target.pid, "-D", image, "--json", *how)
        if tracker and "cannot track writes by" in res.err:
            raise Skip(f"the tracker {tracker}")
        check(res.code == 0 and "full checkpoint" not in res.err, f"{res}")
        stats = json.loads(res.out)["stats"]
        images.append(image)
        return {k: int(v) if str(v).isdigit() else v for k, v in stats.items()}

    def ahead():
        """Increments until one copied ahead; a machine that is slow for a while takes more of them."""
        for _ in range(40):
            # It pays when the time since the last checkpoint was long for what was written in it.
            until = time.monotonic() + 0.25
            box.wait(lambda: time.monotonic() > until, "pages to be written")
            stats = dump()
            if stats["pages_pre"]:
                check(stats["pages_pre"] >= 1024 and stats["pre_rounds"] and stats["pre_us"], f"copied ahead: {stats}")
                check(not stats["pre_pause_us"], f"nothing stopped for it: {stats}")
                check(stats["pages_parent"], f"an increment: {stats}")
                return
        check(False, f"no increment copied ahead, the last one: {stats}")

    full = dump()
    check(not full["pages_pre"], f"a full one: {full}")
    if full["tracker"] != "wp-async":
        for _ in range(3):
            check(not dump()["pages_pre"], "by a tracker that needs a stop")
    else:
        for i in range(3):
            ahead()
            if i == 1:
                dump("--compress", "lz4")
    until = time.monotonic() + 0.25
    box.wait(lambda: time.monotonic() > until, "pages to be written")
    check(not dump("--no-pre")["pages_pre"], "--no-pre")
    check(box.run_ckpt("dump", "-t", target.pid, "-D", "none", "--pre", "--no-pre").code == 2, "usage")

    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the program failed{target.why()}")
    for image in images:
        target.holds(image)
    if full["tracker"] == "wp-async":
        at_rest(box)


main(body)
