#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A tree moves whose processes come, go, change parents and sessions meanwhile: those that can be are made at the
peer while the source runs, and all are right there, with their memory."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from moving import moved_in_steps  # noqa: E402
from node import Node  # noqa: E402
from sandbox import check, main  # noqa: E402


def moved(box, node, peer_at, what, mib, steps):
    return moved_in_steps(box, node, peer_at, what, "flow/mig_tree", str(mib), steps=steps)


def body(box):
    node = Node(box, "b", ipc=True)
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    done = moved(box, node, f"unix:{sock}", "nothing changes", 2, 0)
    if done["tracker"] != "none":
        # All but the one that shares descriptors with the root.
        check(done["processes"] == 11 and done["warm_processes"] == 10, f"they are there before the end: {done}")
    large = moved(box, node, f"unix:{sock}", "large", 12, 0)
    if done["tracker"] != "none":
        # Nothing of what the last part needs grows with them, but for the one that is made in the end.
        check(large["final_pages"] < done["final_pages"] + 256, f"the last part: {done} {large}")
        check(large["filled_bytes"] < done["filled_bytes"] + (11 << 20), f"what is filled in: {done} {large}")
    done = moved(box, node, f"unix:{sock}", "it changes", 20, 2)
    if done["tracker"] != "none":
        # The adopted one was made anew. 24 MiB are those of S, which is made in the end.
        check(done["processes"] == 10 and done["warm_processes"] == 9, f"they are there before the end: {done}")
        check(done["filled_bytes"] < 26 << 20, f"what is filled in: {done}")
    peer.stop()


main(body)
