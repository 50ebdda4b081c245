#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's records tell of the options of connections and listeners is what they say themselves."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from held import HeldSeries  # noqa: E402
from sandbox import BUILD, Skip, Target, check, main, read  # noqa: E402

# The options by their numbers: what ckpt saves, this program sets as far as the kernel lets it.
PROGRAM = """
import fcntl, os, random, signal, socket, struct, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
rng = random.Random(int(sys.argv[2]))
INTS = [(1, n) for n in (2, 5, 6, 7, 8, 9, 10, 12, 15, 18, 29, 35, 36, 37, 40, 42, 44, 45, 46, 47, 60, 69, 70, 72, 74, 82)] + \\
    [(0, n) for n in (1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 18, 19, 20, 21, 24, 25, 26, 50, 51)] + \\
    [(41, n) for n in (16, 23, 25, 31, 49, 51, 53, 54, 56, 58, 62, 66, 67, 70, 72, 73, 74, 75, 76, 77, 78)] + \\
    [(6, n) for n in (1, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 23, 25, 27, 34, 36, 44)]
OTHERS = [(1, 13, struct.pack('ii', 1, 7)), (1, 20, struct.pack('ll', 3, 250000)), (1, 21, struct.pack('ll', 5, 0)),
          (1, 25, b'lo'), (1, 47, struct.pack('q', 10**10)), (6, 13, b'reno'), (0, 4, bytes([1, 1, 1, 0])),
          (1, 61, struct.pack('iI', 1, 0))]
VALUES = [1, 2, 3, 4, 6, 8, 16, 24, 100, 999, 5000, 70000, 20000000, 0]

def change(s):
    level, name = rng.choice(INTS)
    try:
        if rng.random() < 0.1:
            fcntl.fcntl(s, *rng.choice([(fcntl.F_SETOWN, os.getpid()), (fcntl.F_SETOWN, 0), (10, signal.SIGUSR2)]))
        elif rng.random() < 0.15:
            s.setsockopt(*rng.choice(OTHERS))
        else:
            s.setsockopt(level, name, rng.choice(VALUES))
    except OSError:
        pass

l4 = socket.create_server(('127.0.0.1', 0), backlog=64)
l6 = socket.create_server(('::1', 0), family=socket.AF_INET6, backlog=64)
# Ten are as they were born, or have one thing of their own.
listeners = [socket.create_server(('127.0.0.1', 0)) for _ in range(20)]
for l in listeners[10:]:
    change(l)
ends = []
for i in range(60):
    l = (l4, l6)[i % 2]
    ends.append(socket.create_connection(l.getsockname()[:2]))
    ends.append(l.accept()[0])
# The others are as they were born, or have one thing of their own, or many.
for i, s in enumerate(ends):
    for _ in range((0, 0, 1, 12)[i % 4]):
        change(s)
turn = 0
while True:
    open('%s/ready%d' % (sys.argv[1], turn), 'w').close()
    signal.sigwait({signal.SIGUSR1})
    turn += 1
    for s in rng.sample(ends, 25) + rng.sample(listeners, 8) + [l4, l6]:
        change(s)
    ends[3].sendall(b'x' * 100)
"""
CONNECTIONS = 120


def classes(text):
    """(connections, of how many ways to be) that the last checkpoint told of; None: each was asked."""
    found = [(int(n), int(k)) for n, k in re.findall(r"(\d+) connections with (\d+) sets of options", text)]
    return found[-1] if found else None


def differences(box, a, b):
    res = box.run_ckpt("diff", a, b, "--json")
    check(res.code == 0, f"{res}")
    return [x for x in json.loads(res.out)["differences"] if x["what"] not in ("pages", "threads", "thread")]


def compare(box, target, image, turn):
    """Of connections that are asked, whatever the records say."""
    asked = os.path.join(box.dir, f"asked{turn}")
    res = box.run([os.path.join(BUILD, "ckpt-test"), "dump", "-vv", "-t", str(target.pid), "-D", asked, "--tcp", "close"],
                  env=dict(os.environ, CKPT_FAULT="kern.files:fail"), name="asked")
    check(res.code == 0 and classes(res.err) is None, f"{res}")
    found = differences(box, image, asked)
    check(not found, f"turn {turn}: {found}")
    return asked


def body(box):
    with open(os.path.join(box.dir, "log"), "w") as log:
        p = box.spawn(["/usr/bin/python3", "-c", PROGRAM, box.dir, "7"], log, log)
    p.returncode = 0
    target = Target(box, p.pid, box.dir, "program")
    box.wait(lambda: os.path.exists(target.file("ready0")), f"the connections: {read(target.file('log'))}")
    series = HeldSeries(box, target, os.path.join(box.dir, "series"), "--tcp", "close")
    for _ in range(3):
        series.step()
    before = compare(box, target, series.image(), "0")
    for turn in range(1, 9):
        # What a checkpoint was told is used by the next, a moment later.
        series.step()
        os.kill(target.pid, 10)
        box.wait(lambda: os.path.exists(target.file(f"ready{turn}")), "the next turn")
        series.step()
        asked = compare(box, target, series.image(), turn)
        # Otherwise this compares nothing.
        check(differences(box, before, asked), f"turn {turn}: nothing has changed")
        before = asked
    told = classes(read(series.log))
    series.end()
    if told is None:
        raise Skip("a kernel with BPF iterators of the files of a process (Linux 6.1)")
    check(told[0] >= CONNECTIONS and 8 < told[1], f"{told}")


main(body)
