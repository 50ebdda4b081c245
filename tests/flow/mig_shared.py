#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Memory that processes share goes to the peer while they run, also what is written by children that come and go and
by write(2), cut and made longer, punched and filled; and at the end only what has changed since."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from moving import moved_in_steps  # noqa: E402
from node import Node  # noqa: E402
from sandbox import check, main, read  # noqa: E402

KEY = 0x636b7074


def moved(box, node, peer_at, what, mib, steps, *args, env=None):
    began = []
    try:
        return moved_in_steps(box, node, peer_at, what, "flow/mig_shared", str(mib), hex(KEY), *args, steps=steps,
                              options=("--max-rounds", "6"), env=env, started=began.append)
    finally:
        # A segment stays where it was made.
        for t in began:
            box.run(["ipcrm", "-m", read(t.file("segment"))])


def body(box):
    node = Node(box, "b", ipc=True)
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    for what, mib, steps, args in (("nothing is written", 64, 0, ("quiet",)), ("it goes on", 64, 0, ()), ("steps", 16, 3, ()),
                                   ("one step", 16, 1, ("quiet",))):
        done = moved(box, node, f"unix:{sock}", what, mib, steps, *args)
        if done["tracker"] != "none":
            # All of it went out once; each of the eight writes to 64 pages.
            check(done["pages"] > mib * 200, f"{what}: {done}")
            check(done["final_pages"] < 1000 + mib * 256 // 64, f"{what}: the last part is small: {done}")
    peer.stop()
    left = box.run(node.enter(["ipcs", "-m"]))
    check("0x" not in left.out, f"no segment is left at the peer: {left}")


main(body)
