#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=60
"""ckpt check --to asks both nodes what would stop a migration, and moves nothing."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main, read  # noqa: E402

HOLD = """
import os, signal, sys
with open('/proc/sys/kernel/ns_last_pid', 'w') as f:
    f.write(str(int(sys.argv[1]) - 1))
if os.fork() == 0:
    print(os.getpid(), flush=True)
signal.pause()
"""


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    to = f"unix:{sock}"
    target = box.start(os.path.join(BUILD, "tests/kind/task_simple"), subdir="free")
    target.wait_ready()

    res = box.run_ckpt("check", "-t", target.pid, "--to", to, env=node.env())
    check(res.code == 1 and "E-PEER" in res.err, f"nobody listens: {res}")
    res = box.run_ckpt("check", "--to", to, env=node.env())
    check(res.code == 2, f"--to alone: {res}")

    peer = node.receive("--unix", sock)
    res = box.run_ckpt("check", "-t", target.pid, "--to", to, env=node.env())
    check(res.code == 0 and "Nothing stops" in res.out, f"both are fine: {res}")

    out = os.path.join(box.dir, "held")
    with open(out, "w") as f:
        box.spawn(node.enter(["/usr/bin/python3", "-c", HOLD, str(target.pid)]), f, f).returncode = 0
    box.wait(lambda: read(out).endswith("\n"), "somebody holds the number there")
    check(read(out) == f"{target.pid}\n", read(out))
    res = box.run_ckpt("check", "-t", target.pid, "--to", to, "--json", env=node.env())
    check(res.code == 3, f"the number is taken there: {res}")
    problems = json.loads(res.out)["problems"]
    check([(p["id"], p["node"]) for p in problems] == [("E-PID-TAKEN", "peer")], f"{problems}")
    res = box.run_ckpt("check", "-t", target.pid, "--to", to, env=node.env())
    check(res.code == 3 and "peer: E-PID-TAKEN" in res.out, f"in words: {res}")
    peer.stop()
    target.finish()


main(body)
