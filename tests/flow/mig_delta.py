#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Pages that change a little are sent as differences: a fifth of the bytes or less, the same contents. Mapped anew,
lost at the peer, or with a cache that is too small, every word is still right."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main  # noqa: E402

TEST_BUILD = os.path.join(BUILD, "ckpt-test")


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = None
    moves = 0

    def move(what, pages, rate, anew, *args):
        """(pages, bytes) of its rounds but the first, and the report."""
        nonlocal moves
        moves += 1
        t = box.start(os.path.join(BUILD, "tests/flow/mig_sparse"), str(pages), str(rate), str(anew),
                      subdir=f"sparse{moves}")
        t.wait_ready()
        res = box.run_ckpt("migrate", "-t", t.pid, "--to", f"unix:{sock}", "--json", "--max-downtime", "1",
                           "--max-rounds", "6", *args, env=node.env())
        check(res.code == 0, f"{what}: {res}")
        box.wait_pid(t.pid, "it is ended at the source")
        node.finish(t, what)
        box.wait(node.idle, "nothing is left at the peer")
        events = [json.loads(line) for line in res.out.splitlines() if line.startswith('{"')]
        rounds = [e for e in events if e["event"] == "round"][1:]
        got = sum(e["pages"] for e in rounds), sum(e["bytes"] for e in rounds)
        box.log(f"{what}: {got[0]} pages, {got[1]} bytes; {events[-1]}")
        return *got, events[-1]

    peer = node.receive("--unix", sock)
    pages, size, done = move("differences", 4096, 20000, 0, "--compress", "none")
    if done["tracker"] == "none":
        peer.stop()
        return
    # How many depends on how fast the rounds are; enough for a share to mean something.
    check(pages > 100, f"{pages} pages were sent again")
    check(size * 5 <= pages * 4096, f"{size} bytes for {pages} pages: differences save too little")
    check(done["saved_xor_bytes"] > pages * 4096 * 3 // 4, f"the report: {done}")
    pages, size, done = move("without", 4096, 20000, 0, "--compress", "none", "--delta-cache", "0")
    check(size >= pages * 4096 and not done["saved_xor_bytes"], f"none were asked for: {size} for {pages}, {done}")
    move("mapped anew", 2048, 20000, 2000)
    move("with a small cache", 2048, 20000, 100, "--delta-cache", "256k")
    peer.stop()
    peer = node.receive("--unix", sock, program=TEST_BUILD, env={"CKPT_FAULT": "delta.lost:fail"})
    move("what they are to is lost", 2048, 20000, 500)
    peer.stop()


main(body)
