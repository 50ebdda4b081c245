#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A tree moves whose processes come, go, change parents and sessions meanwhile: those that can be are made at the
peer while the source runs, and all are right there, with their memory."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))
from _invariants import TEST_BUILD  # noqa: E402
from _walk import stopped_ckpt  # noqa: E402
from node import Node  # noqa: E402
from sandbox import BUILD, check, main, read, tree  # noqa: E402


def moved(box, node, peer_at, what, mib, steps):
    """Migrate; after each round but the last of @steps the tree makes a step. The last event."""
    t = box.start(os.path.join(BUILD, "tests/flow/mig_tree"), str(mib), subdir=what.replace(" ", "-"))
    t.wait_ready()
    out, err = t.file("out"), t.file("err")
    env = node.env(CKPT_FAULT="migrate.round:stop") if steps else node.env()
    argv = [TEST_BUILD if steps else box.ckpt, "migrate", "-t", str(t.pid), "--to", peer_at, "--json", "--max-downtime", "1"]
    with open(out, "w") as o, open(err, "w") as e:
        p = box.spawn(argv, o, e, env=env)
    p.returncode = 0
    stops = 0
    while True:
        stopped = box.wait(lambda: p.pid in box.status or p.pid in stopped_ckpt(), f"{what}: ckpt goes on{read(err)}")
        if p.pid in box.status:
            break
        check(stopped, "stopped")
        stops += 1
        if stops <= steps:
            os.kill(t.pid, signal.SIGUSR1)
            box.wait(lambda: os.path.exists(t.file(f"step{stops}")), f"{what}: step {stops}{t.why()}")
        os.kill(p.pid, signal.SIGCONT)
    code = os.waitstatus_to_exitcode(box.status.pop(p.pid))
    check(code == 0, f"{what}: {read(out)} {read(err)}{t.why()}")
    check(stops >= steps, f"{what}: only {stops} rounds")
    box.log(f"{what}: {read(out)}")
    box.wait(lambda: len(tree(t.pid)) == 1 and not os.path.exists(f"/proc/{t.pid}") or t.pid in box.status,
             f"{what}: it is ended at the source")
    node.finish(t, what)
    box.wait(node.idle, f"{what}: nothing is left at the peer")
    return json.loads([line for line in read(out).splitlines() if line.startswith('{"')][-1])


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
