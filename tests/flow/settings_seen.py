#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's records tell of a process is what the process says itself, whatever it sets between checkpoints."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import BUILD, Skip, Target, check, main, read  # noqa: E402

PROGRAM = """
import ctypes, os, random, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, *range(50, 55)})
rng = random.Random(11)
libc.sbrk.restype = ctypes.c_void_p

def name(v):
    libc.prctl(15, ctypes.c_char_p(b'name%d' % v), 0, 0, 0)

def altstack(v):
    stack = (ctypes.c_ulong * 3)(id(keep) // 16 * 16, v % 2 * 2, 65536)
    libc.sigaltstack(stack, None)

keep = bytearray(1 << 17)
CHANGES = [
    lambda v: signal.signal(rng.choice([1, 3, 13, 17, 28, 40, 64]), rng.choice([signal.SIG_IGN, signal.SIG_DFL, lambda *a: 0])),
    lambda v: signal.siginterrupt(rng.choice([10, 12, 14]), bool(v % 2)),
    lambda v: libc.prctl(4, v % 2, 0, 0, 0),            # dumpable
    lambda v: libc.prctl(41, v % 2, 0, 0, 0),           # no huge pages
    lambda v: libc.prctl(36, v % 2, 0, 0, 0),           # subreaper
    lambda v: libc.prctl(29, 50000 + v, 0, 0, 0),       # timer slack
    lambda v: libc.prctl(1, v % 20, 0, 0, 0),           # signal at the parent's death
    lambda v: libc.prctl(28, v % 2 * 16, 0, 0, 0),      # securebits: keep capabilities
    lambda v: libc.prctl(33, 1, v % 3, 0, 0),           # machine checks
    lambda v: libc.prctl(67, v % 2, 0, 0, 0),           # merging
    lambda v: libc.personality(0x0040000 * (v % 2)),
    lambda v: libc.sbrk(4096 * (v % 7)),
    lambda v: os.umask(v % 64),
    lambda v: os.kill(os.getpid(), 50 + v % 5),         # blocked, so it waits
    name, altstack,
]
TIMED = [
    (lambda: signal.setitimer(signal.ITIMER_REAL, 1000), lambda: signal.setitimer(signal.ITIMER_REAL, 0)),
    (lambda: signal.setitimer(signal.ITIMER_PROF, 1000), lambda: signal.setitimer(signal.ITIMER_PROF, 0)),
    (lambda: libc.mlockall(2), lambda: libc.munlockall()),
]
turn = 0
while True:
    open('%s/ready%d' % (sys.argv[1], turn), 'w').close()
    signal.sigwait({signal.SIGUSR1})
    turn += 1
    if turn % 4 == 2:
        TIMED[turn // 4 % 3][0]()
    if turn % 4 == 3:
        TIMED[turn // 4 % 3][1]()
    for _ in range(6):
        rng.choice(CHANGES)(rng.randrange(1000))
"""
TURNS = 20


def compare(box, target, number, turn):
    asked = os.path.join(box.dir, f"asked{turn}")
    res = box.run([os.path.join(BUILD, "ckpt-test"), "dump", "-t", str(target.pid), "-D", asked], name="asked")
    check(res.code == 0, f"{res}")
    res = box.run_ckpt("diff", f"{box.dir}/series/{number:06d}", asked, "--json")
    check(res.code == 0, f"{res}")
    # What a timer has left is less each time.
    found = [x for x in json.loads(res.out)["differences"]
             if x["what"] != "pages" and not (turn % 4 == 2 and "timers" in x["text"])]
    check(not found, f"turn {turn}: {found}")


def body(box):
    with open(os.path.join(box.dir, "log"), "w") as log:
        p = box.spawn(["/usr/bin/python3", "-c", PROGRAM, box.dir], log, log)
    p.returncode = 0
    target = Target(box, p.pid, box.dir, "program")
    box.wait(lambda: os.path.exists(target.file("ready0")), f"the program: {read(target.file('log'))}")
    held = target.file("held")
    with open(target.file("ckpt"), "w") as log:
        box.spawn([os.path.join(BUILD, "ckpt-test"), "dump", "-vv", "-t", str(target.pid), "-D", f"{box.dir}/series",
                   "--every", "1ms", "--keep", str(TURNS * 4)], log, log,
                  env=dict(os.environ, CKPT_FAULT="every.made:hold", CKPT_FAULT_MET=held))

    def step():
        box.wait(lambda: os.path.exists(held), f"a checkpoint: {read(target.file('ckpt'))}")
        return read(target.file("ckpt")).count("nothing was asked")

    step()
    os.unlink(held)
    step()
    os.unlink(held)
    told, set_, number = [], set(), 3
    for turn in range(TURNS):
        before = step()
        os.unlink(held)
        # The second one after a change: what is new to ckpt it has asked about by then.
        after = step()
        number += 1
        compare(box, target, number, turn)
        told.append(after > before)
        if turn:
            res = box.run_ckpt("diff", f"{box.dir}/asked{turn - 1}", f"{box.dir}/asked{turn}", "--json")
            set_ |= {x["text"].split(": ")[-1] for x in json.loads(res.out)["differences"] if x["what"] == "setting"}
        os.kill(target.pid, 10)
        box.wait(lambda: os.path.exists(target.file(f"ready{turn + 1}")), "the next turn")
        os.unlink(held)
        number += 1
    # Otherwise this compares nothing.
    want = {"sigaction", "altstack", "comm", "creds", "thread-traits", "task-traits", "itimers", "layout", "memlock", "fs",
            "pending-shared"}
    check(want <= set_, f"never changed: {want - set_}")
    if not any(told):
        raise Skip("a kernel with BPF iterators of processes")
    # But where a timer of CPU time runs or what is mapped is locked.
    check(told == [turn % 4 != 2 or turn // 4 % 3 == 0 for turn in range(TURNS)], f"{told}")


main(body)
