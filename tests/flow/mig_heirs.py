#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""Memory that processes share copy-on-write since a fork goes over the link once and is there once, whatever they write,
drop, map and grow before and meanwhile, also where one of them has ended or is made in the end."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from moving import TEST_BUILD, moved_in_steps  # noqa: E402
from node import Node  # noqa: E402
from sandbox import BUILD, Skip, check, main, takes, tree  # noqa: E402

MIB = int(os.environ.get("T_MIB", "24"))
TRACKER = ("--tracker", os.environ["T_TRACKER"]) if "T_TRACKER" in os.environ else ()


def stays(box, node, sock):
    """To have been read takes the source no memory."""
    t = box.start(os.path.join(BUILD, "tests/flow/mig_heirs"), str(MIB), subdir="stays")
    t.wait_ready()
    before = takes(tree(t.pid))
    res = box.run([TEST_BUILD, "migrate", "-t", str(t.pid), "--to", f"unix:{sock}"], env=node.env(CKPT_FAULT="migrate.frozen:fail"))
    check(res.code == 1, f"it fails: {res}")
    after = takes(tree(t.pid))
    box.log(f"it stays: MiB {before}, then {after}")
    check(after < before + 2, f"it takes what it took: {before} and {after} MiB")
    t.finish()


def body(box):
    if TRACKER:
        t = box.start(os.path.join(BUILD, "tests/flow/flat"), "1", subdir="tracker").wait_ready()
        res = box.run_ckpt("dump", "-t", t.pid, "-D", os.path.join(box.dir, "tracker.image"), "--track", *TRACKER)
        if "cannot track writes by" in res.err:
            raise Skip(f"the tracker {TRACKER[1]}")
        check(res.code == 0, f"{res}")
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    took = {}

    def here(t):
        took["here"] = takes(tree(t.pid))

    def there(t):
        took["there"] = takes(tree(node.outer(t.pid)))

    for what, args, steps, options in (("nothing is written", (), 0, ()), ("they write", ("hot",), 0, ()), ("one step", (), 1, ()),
                                       ("two steps", ("hot",), 2, ()), ("one round", (), 0, ("--max-rounds", "1")),
                                       ("two rounds", ("hot",), 0, ("--max-rounds", "2"))):
        done = moved_in_steps(box, node, f"unix:{sock}", what, "flow/mig_heirs", str(MIB), *args, steps=steps,
                              options=(*options, *TRACKER), started=here, there=there)
        box.log(f"{what}: MiB {took}, {done}")
        if not done["rounds"]:
            continue        # a tracker that asks only while the program stands still
        if what == "one round":
            check(not done["saved_shared_bytes"], f"{what}: nobody waits for a round that does not come: {done}")
            continue
        # Of the 5/4 that each of seven has, most is its parent's; of a small pool less, for they go on writing.
        check(done["saved_shared_bytes"] > MIB * 3 << 20, f"{what}: what they share is sent once: {done}")
        check(done["saved_shared_bytes"] < MIB * 9 << 20, f"{what}: what they do not share is sent: {done}")
        if what == "nothing is written":
            # S is made in the end, and has a copy of what it shares. An eighth is shared by four who are not parent and child.
            check(took["there"] < took["here"] + MIB * 5 / 4 + MIB * 3 / 8 + 8, f"{what}: it takes what it took: {took}")
            check(done["warm_processes"] == done["processes"] - 1, f"{what}: they are there before the end: {done}")
    stays(box, node, sock)
    peer.stop()


main(body)
