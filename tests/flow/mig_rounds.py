#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Programs that write all the time move while they run; every page is what it must be there."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main  # noqa: E402


TRIES = 3


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    moves = 0

    def move(what, mib, rate, children, *args, code=0):
        nonlocal moves
        moves += 1
        t = box.start(os.path.join(BUILD, "tests/flow/mig_mem"), str(mib), str(rate), str(children),
                      subdir=f"mem{moves}")
        t.wait_ready()
        res = box.run_ckpt("migrate", "-t", t.pid, "--to", f"unix:{sock}", "--json", *args, env=node.env())
        check(res.code == code, f"{what}: {res}")
        events = [json.loads(line) for line in res.out.splitlines() if line.startswith('{"')]
        if code:
            t.finish()
        else:
            box.wait_pid(t.pid, "it is ended at the source")
            node.finish(t, what)
        check(node.idle() or box.wait(node.idle, "nothing is left at the peer"), "idle")
        return events

    done = move("little is written", 64, 200, 0)[-1]
    tracked = done["tracker"] != "none"
    box.log(f"tracker {done['tracker']}")
    if tracked:
        check(done["rounds"] >= 2, f"rounds: {done}")
        check(done["final_pages"] < 64 * 256 / 8, f"the last part is small: {done}")
    # Seen once, on a busy machine and for a reason nobody knows yet: all children came in the end alone.
    for _ in range(TRIES if tracked else 1):
        done = move("with children", 32, 500, 3)[-1]
        box.log(f"with children: {done}")
        if done["warm_processes"] == 4:
            break
    if tracked:
        check(done["processes"] == done["warm_processes"] == 4, f"all were there before the end: {done}")
        check(done["final_pages"] < 4 * 32 * 256 / 8, f"the last part is small: {done}")
        # What comes in the end, and stacks and pages of files.
        check(done["filled_bytes"] < done["final_pages"] * 4096 + (4 << 20), f"little is filled in: {done}")
    move("packed", 32, 500, 1, "--compress", "lz4")
    move("much is written", 32, 40000, 0, "--max-rounds", "5")
    move("only once, while it stands still", 16, 1000, 1, "--max-rounds", "0")
    move("without a tracker", 16, 1000, 0, "--tracker", "none")
    if tracked:
        events = move("it does not converge", 48, 200000, 0, "--bandwidth", "40M", "--max-downtime", "1",
                      "--max-rounds", "4", "--on-diverge", "fail", code=1)
        check(any(e.get("event") == "round" for e in events), f"rounds were made: {events}")
        events = move("it is slowed down", 12, 200000, 1, "--bandwidth", "40M", "--max-downtime", "60",
                      "--on-diverge", "throttle", "--max-rounds", "8", "--delta-cache", "0", "--compress", "none")
        held = [e["throttle_percent"] for e in events if e["event"] == "throttled"]
        check(held and held == sorted(held) and held[0] == 50, f"it is slowed down: {events}")
    peer.stop()


main(body)
