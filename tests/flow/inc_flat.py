# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""The same 18 pages of a small and of a large program: an increment looks at as many pages of one as of the other, and saves
as many. By counts, which do not depend on the machine."""
import json
import os
import signal
import struct

from sandbox import BUILD, Skip, check, main

SIZES = [int(s) for s in os.environ.get("T_SIZES", "32,320").split(",")]    # MiB
AT, PAGES = 0x640000000000, 18


def objects(text):
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        obj, end = decoder.raw_decode(text, at)
        yield obj
        at = text.find("{", end)


def body(box):
    tracker = os.environ.get("T_TRACKER")
    told = []
    for mib in SIZES:
        target = box.start(os.path.join(BUILD, "tests/flow/flat"), str(mib), subdir=str(mib))
        target.wait_ready()
        name = f"{box.image}-{mib}-"
        for turn in range(4):
            for i in range(PAGES if turn else 0):
                with open(f"/proc/{target.pid}/mem", "r+b", buffering=0) as mem:
                    mem.seek(AT + i * ((mib << 8) // PAGES) * 4096)
                    mem.write(struct.pack("<Q", 4711))
            how = ["--parent", f"{name}{turn - 1}"] if turn else ["--track", *(["--tracker", tracker] if tracker else [])]
            res = box.run_ckpt("dump", "-t", target.pid, "-D", f"{name}{turn}", "--json", *how)
            if tracker and "cannot track writes by" in res.err:
                raise Skip(f"the tracker {tracker}")
            check(res.code == 0, f"{res}")
            stats = next(o["stats"] for o in objects(res.out) if "stats" in o)
        told.append((stats["tracker"], int(stats["pages_scanned"]), int(stats["pages_written"])))
        os.kill(target.pid, signal.SIGKILL)
        box.wait_pid(target.pid, "end of the target")
        box.restore(image=f"{name}3")
        target.finish()
        box.wait(lambda: not os.path.exists(f"/proc/{target.pid}"), "end of the restored program")
        box.status.pop(target.pid, None)
    box.log(str(told))
    (name, small_seen, small_saved), (_, large_seen, large_saved) = told
    if name in ("kmod", "wp-async"):
        # Around a page that was written wp-async looks at what a call would cost: 2 x 128 pages.
        check(large_seen <= 1.5 * small_seen + 2 * 128 * PAGES, f"pages looked at: {told}")
    if name != "none":
        check(large_saved <= small_saved + 8, f"pages saved: {told}")


main(body)
