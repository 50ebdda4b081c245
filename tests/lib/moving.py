# SPDX-License-Identifier: GPL-2.0-only
"""A program that changes while it is moved to another node, one step after each of the first rounds:

    done = moved_in_steps(box, node, f"unix:{sock}", "it changes", "flow/mig_tree", "20", steps=2)

It makes a step for each SIGUSR1, and the file "stepN" when that is done. The result is the last event."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))
from _invariants import TEST_BUILD  # noqa: E402
from _walk import stopped_ckpt  # noqa: E402
from sandbox import BUILD, check, read, tree  # noqa: E402


def moved_in_steps(box, node, peer_at, what, program, *args, steps=0, options=(), env=None, started=None, there=None):
    """@started and @there are called with the target: before it is moved, and when it is there."""
    t = box.start(os.path.join(BUILD, "tests", program), *args, subdir=what.replace(" ", "-"))
    t.wait_ready()
    members = tree(t.pid)
    if started:
        started(t)
    out, err = t.file("out"), t.file("err")
    argv = [TEST_BUILD if steps or env else box.ckpt, "migrate", "-t", str(t.pid), "--to", peer_at, "--json", "--max-downtime", "1",
            *options]
    stop = {"CKPT_FAULT": "migrate.round:stop"} if steps else {}
    with open(out, "w") as o, open(err, "w") as e:
        p = box.spawn(argv, o, e, env=node.env(**stop, **(env or {})))
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
    if there:
        there(t)
    node.finish(t, what)
    box.wait(node.idle, f"{what}: nothing is left at the peer")
    return json.loads([line for line in read(out).splitlines() if line.startswith('{"')][-1])
