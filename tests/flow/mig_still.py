#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""The peer, or the way to it, stands still while the program does, over a unix socket and over ssh, where no kernel
answers for it: it is given up in seconds, not in half a minute. Before RUN the program goes on at the source; behind it the
peer is asked over another connection. When it goes on it drops what it has."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))
from _invariants import TEST_BUILD  # noqa: E402
from _walk import stopped_ckpt  # noqa: E402
from node import Node  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import check, main, read  # noqa: E402

SSH = """#!/bin/sh
exec nsenter -t {init} -p -m -n -- env CKPT_FAULT={point}:stop CKPT_RUN_DIR={run} {ckpt} receive --stdio
"""


def body(box):
    node = Node(box, "b")
    prog = OneCopy(box, node)
    sock, ssh = os.path.join(box.dir, "sock"), os.path.join(box.dir, "ssh")

    def stands_still(way, point, *args):
        what = f"{way}, {point}"
        peer = None
        with open(ssh, "w") as f:
            f.write(SSH.format(init=node.init, point=point, run=node.run_dir, ckpt=TEST_BUILD))
        os.chmod(ssh, 0o755)
        if way == "unix":
            peer = node.receive("--unix", sock, program=TEST_BUILD, env={"CKPT_FAULT": f"{point}:stop"})
        target = prog.start()
        out = target.file(f"{way}-{point}")
        with open(out, "w") as o:
            p = box.spawn([box.ckpt, "migrate", "-t", str(target.pid), "--to", "ssh://b" if way == "ssh" else f"unix:{sock}", *args],
                          o, o, env=node.env(CKPT_SSH=ssh))
        p.returncode = 0
        stopped = box.wait(stopped_ckpt, f"{what}: the peer stands still: {read(out)}")
        since = time.monotonic()
        box.wait(lambda: prog.runs(target.pid) or p.pid in box.status, f"{what}: the program goes on: {read(out)}", timeout=60)
        took = time.monotonic() - since
        box.log(f"{what}: it goes on after {took:.1f} s")
        check(took < 20, f"{what}: it stood still for {took:.1f} s")
        # Its helper, too, if that is what was stopped.
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        box.wait(lambda: p.pid in box.status, f"{what}: ckpt migrate ends: {read(out)}", timeout=60)
        check(os.waitstatus_to_exitcode(box.status.pop(p.pid)) == 1, f"{what}: {read(out)}")
        check("is dead" in read(out), f"{what}: {read(out)}")
        if peer:
            box.wait(lambda: "ckpt: E-" in peer.text() or node.idle(), f"{what}: the peer drops it: {peer.text()}")
            peer.stop()
        check(prog.verify(what) == "here", f"{what}: it stays")
        prog.leftovers(what)

    stands_still("unix", "receive.planned")
    stands_still("ssh", "restore.built")
    # A peer that is busy, and says so, is waited for.
    hook = os.path.join(box.dir, "hook")
    with open(hook, "w") as f:
        f.write('#!/bin/sh\n[ "$1" = ready ] && sleep 5\nexit 0\n')
    os.chmod(hook, 0o755)
    peer = node.receive("--unix", sock, "--hook", hook)
    target = prog.start()
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", f"unix:{sock}", env=node.env())
    check(res.code == 0, f"busy: {res}")
    check(prog.verify("busy") == "there", "busy: it moves")
    prog.end()
    peer.stop()


main(body)
