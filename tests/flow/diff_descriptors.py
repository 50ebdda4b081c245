# SPDX-License-Identifier: GPL-2.0-only
"""ckpt diff tells of a descriptor whose lock or whose owner (F_SETOWN, F_SETSIG) has changed, and of no other."""
import json
import os
import signal

from sandbox import check, main, read

PROGRAM = """
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
fds = [os.open('file%d' % i, os.O_RDWR | os.O_CREAT) for i in range(5)]
end = os.pipe()
steps = [lambda: fcntl.flock(fds[0], fcntl.LOCK_EX), lambda: fcntl.lockf(fds[1], fcntl.LOCK_EX, 10, 5),
         lambda: fcntl.lockf(fds[1], fcntl.LOCK_EX, 20, 5), lambda: fcntl.fcntl(end[0], fcntl.F_SETOWN, os.getpid()),
         lambda: fcntl.fcntl(end[0], 10, signal.SIGUSR2), lambda: fcntl.flock(fds[0], fcntl.LOCK_UN)]
os.write(1, b'%d %d %d ' % (fds[0], fds[1], end[0]))
for step in steps:
    os.write(1, b'.')
    signal.sigwait({signal.SIGUSR1})
    step()
os.write(1, b'.')
signal.sigwait({signal.SIGUSR1})
"""
CHANGES = (0, 1, 1, 2, 2, 0)     # which of the three, by each step


def body(box):
    log = os.path.join(box.dir, "log")
    with open(log, "w") as f:
        p = box.spawn(["/usr/bin/python3", "-c", PROGRAM], f, f, cwd=box.dir)
    p.returncode = 0
    for step in range(len(CHANGES) + 1):
        box.wait(lambda: read(log).count(".") > step, f"step {step}: {read(log)}")
        image = os.path.join(box.dir, f"image{step}")
        res = box.run_ckpt("dump", "-t", p.pid, "-D", image)
        check(res.code == 0, f"{res}")
        if step:
            res = box.run_ckpt("diff", os.path.join(box.dir, f"image{step - 1}"), image, "--json")
            check(res.code == 0, f"{res}")
            told = [d["text"].split()[0] for d in json.loads(res.out)["differences"] if d["what"] == "descriptor"]
            want = read(log).split()[CHANGES[step - 1]]
            # Its output goes to a file, which is further on.
            check([t for t in told if t not in ("1", "2")] == [want], f"step {step}: fd {want} has changed, not {told}")
        os.kill(p.pid, signal.SIGUSR1)


main(body)
