#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A program moves while a slow device writes into its memory (direct I/O: the kernel holds the pages,
and nothing that watches page tables sees the write)."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from fuse import Slow  # noqa: E402
from node import Node  # noqa: E402
from sandbox import BUILD, Skip, check, main  # noqa: E402


def body(box):
    folder = os.path.join(box.dir, "slow")
    os.mkdir(folder)
    try:
        Slow(folder, 0.2)
    except OSError as e:
        raise Skip(f"fuse: {e}")
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    for i in range(3):
        t = box.start(os.path.join(BUILD, "tests/flow/mig_direct"), os.path.join(folder, "data"),
                      subdir=f"t{i}").wait_ready()
        res = box.run_ckpt("migrate", "-t", t.pid, "--to", f"unix:{sock}", "--json", "--max-rounds", "6",
                           env=node.env())
        check(res.code == 0, f"migrate: {res}")
        done = [json.loads(line) for line in res.out.splitlines() if line.startswith('{"')][-1]
        box.log(f"{done}")
        box.wait_pid(t.pid, "it is ended at the source")
        node.finish(t)
        box.wait(node.idle, "nothing is left at the peer")
    peer.stop()


main(body)
