# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Shared memory in increments: only pages whose contents changed are saved, whoever changed them: another process of
the tree, or one outside through a descriptor or a mapping of its own; and what changed back is found unchanged."""
import json
import mmap
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main  # noqa: E402

PAGE, PAGES, AT = 4096, 2048, 0x620000000000
FDS = (50, 51, 52)


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/shared_pages")).wait_ready()
    want = {}   # (descriptor or "anon", page) -> first word
    last = [None]

    def write(fd, page, value, mapped=False):
        want[fd, page] = value
        with open(f"/proc/{target.pid}/fd/{fd}", "r+b", buffering=0) as f:
            if mapped:
                with mmap.mmap(f.fileno(), PAGE, offset=page * PAGE) as m:
                    m[:8] = struct.pack("<Q", value)
            else:
                os.pwrite(f.fileno(), struct.pack("<Q", value), page * PAGE)

    def write_anon(pid, page, value):
        want["anon", page] = value
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as f:
            f.seek(AT + (PAGES + page) * PAGE)
            f.write(struct.pack("<Q", value))

    def increment(name, least, most, *options):
        image = os.path.join(box.dir, name)
        how = ["--parent", last[0]] if last[0] else ["--track"]
        res = box.dump(target, *how, "--json", *options, image=image)
        check("full checkpoint" not in res.err, f"{res}")
        stats = json.loads(res.out)["stats"]
        saved = stats["pages_written"]
        check(least <= saved <= most, f"{name}: {saved} pages were saved, not {least} to {most}")
        last[0] = image
        return stats

    def verify(pid):
        for (where, page), value in want.items():
            path, off = (f"/proc/{pid}/mem", AT + (PAGES + page) * PAGE) if where == "anon" \
                else (f"/proc/{pid}/fd/{where}", page * PAGE)
            with open(path, "rb", buffering=0) as f:
                f.seek(off)
                got, = struct.unpack("<Q", f.read(8))
            check(got == value, f"page {page} of {where}: {got:#x}, not {value:#x}")

    total = 4 * PAGES
    increment("full", total, total + 1000)
    stats = increment("idle", 0, 200)
    check(stats["pages_parent"] >= total, f"unchanged: {stats}")
    for fd in FDS:
        write(fd, 3, 1000 + fd)
        write(fd, PAGES - 1, 2000 + fd, mapped=True)
    child = int(open(f"/proc/{target.pid}/task/{target.pid}/children").read().split()[0])
    write_anon(child, 5, 77)
    stats = increment("outside", 7, 200)
    # What a dump was made of is told, and kept in the image.
    # The anonymous part may be known without comparing.
    check(stats["pages_same"] >= 3 * PAGES - 10 and stats["pages_dirty"] >= 7, f"pages: {stats}")
    check(stats["pages_dirty"] <= stats["pages_scanned"], f"pages: {stats}")
    check(stats["faults"] and stats["faults_since"] < stats["faults"], f"faults: {stats}")
    stop = sum(stats[n + "_us"] for n in ("freeze", "threads", "fds", "maps", "compare", "snapshot", "copy"))
    check(0 < stop <= stats["pause_us"] < stats["total_us"], f"phases: {stats}")
    kept = json.loads(box.run_ckpt("show", "-D", last[0], "--json").out)["inventory"]["stats"]
    check(all(kept[n] == stats[n] for n in ("pause_us", "maps_us", "pages_same", "faults")), f"{kept}")
    check("compare" in box.run_ckpt("show", "-D", last[0]).out, "show tells the phases")
    # Back to what an earlier checkpoint held, but not its parent.
    for fd in FDS:
        write(fd, 3, 3000 + fd)
    increment("again", 3, 200)
    for fd in FDS:
        write(fd, 3, 1000 + fd)
    write_anon(target.pid, 6, 78)
    increment("back", 4, 200)
    # A merged chain is a parent like any other.
    write_anon(child, 7, 79)
    increment("last", 1, 200, "--kill")
    merged = os.path.join(box.dir, "merged")
    check(box.run_ckpt("merge", "-D", last[0], "-o", merged).code == 0, "merge")
    for image in (last[0], merged):
        check(box.run_ckpt("verify", "-D", image).code == 0, f"verify of {image}")
        box.restore(image=image)
        verify(target.pid)
        if image != merged:
            for p in (child, target.pid):
                os.kill(p, 9)
            box.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in (child, target.pid)),
                     "end of the restored program")
            for p in (child, target.pid):
                box.status.pop(p, None)
    target.finish()


main(body)
