#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Memory that processes share goes to the peer while they run, also what is written by children that come and go and
by write(2), cut and made longer, punched and filled; and at the end only what has changed since."""
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

KEY = 0x636b7074


def moved(box, node, peer_at, what, mib, steps, *args, env=None):
    """Migrate; after each of the first @steps rounds the program makes a step. The last event."""
    t = box.start(os.path.join(BUILD, "tests/flow/mig_shared"), str(mib), hex(KEY), *args, subdir=what.replace(" ", "-"))
    t.wait_ready()
    members = tree(t.pid)
    out, err = t.file("out"), t.file("err")
    argv = [TEST_BUILD, "migrate", "-t", str(t.pid), "--to", peer_at, "--json", "--max-downtime", "1", "--max-rounds", "6"]
    try:
        with open(out, "w") as o, open(err, "w") as e:
            p = box.spawn(argv, o, e, env=node.env(CKPT_FAULT="migrate.round:stop", **(env or {})))
        p.returncode = 0
        stops = 0
        while True:
            box.wait(lambda: p.pid in box.status or p.pid in stopped_ckpt(), f"{what}: ckpt goes on{read(err)}")
            if p.pid in box.status:
                break
            stops += 1
            if stops <= steps:
                os.kill(t.pid, signal.SIGUSR1)
                box.wait(lambda: os.path.exists(t.file(f"step{stops}")), f"{what}: step {stops}{t.why()}")
            os.kill(p.pid, signal.SIGCONT)
        code = os.waitstatus_to_exitcode(box.status.pop(p.pid))
        check(code == 0, f"{what}: {read(out)} {read(err)}{t.why()}")
        check(stops >= steps, f"{what}: only {stops} rounds")
        box.log(f"{what}: {read(out)}")
        box.wait(lambda: not any(os.path.exists(f"/proc/{m}") for m in members) or t.pid in box.status,
                 f"{what}: it is ended at the source")
        node.finish(t, what)
        box.wait(node.idle, f"{what}: nothing is left at the peer")
    finally:
        # A segment stays where it was made.
        box.run(["ipcrm", "-m", read(t.file("segment"))])
    return json.loads([line for line in read(out).splitlines() if line.startswith('{"')][-1])


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
