#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's records tell of the files of a process and of its child is what /proc and the files say."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from held import HeldSeries  # noqa: E402
from sandbox import BUILD, Skip, Target, check, main, read  # noqa: E402

PROGRAM = """
import fcntl, os, random, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
d, rng = sys.argv[1] + '/files', random.Random(5)
os.makedirs(d + '/folder/sub')
FLAGS = [os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_SYNC, os.O_RDONLY | os.O_NONBLOCK,
         os.O_RDWR | os.O_NOATIME, os.O_PATH]
number = [0]

def file():
    number[0] += 1
    path = '%s/%d' % (d, number[0])
    with open(path, 'wb') as f:
        f.write(b'x' * 5000)
    return path, os.open(path, rng.choice(FLAGS))

os.symlink('nowhere', d + '/link')
OTHERS = [lambda: os.open('/dev/null', os.O_RDWR), lambda: os.open('/dev/zero', os.O_RDONLY | os.O_NONBLOCK),
          lambda: os.open('/dev/urandom', os.O_RDONLY), lambda: os.open(d + '/folder', os.O_RDONLY | os.O_DIRECTORY),
          lambda: os.open(d + '/link', os.O_PATH | os.O_NOFOLLOW), lambda: os.open('/proc/self/status', os.O_RDONLY),
          lambda: os.eventfd(rng.randrange(9), os.EFD_NONBLOCK), lambda: os.memfd_create('m'), lambda: os.open(d, 0o20200002)]
files, others = [file() for _ in range(30)], [o() for o in OTHERS] + list(os.pipe())
for fd in [f for _, f in files] + others:
    os.set_inheritable(fd, rng.random() < 0.3)
child = os.fork()
lease = os.open(d + '/lease%d' % (child != 0), os.O_RDONLY | os.O_CREAT)

def refuses(f, *args):
    try:
        f(*args)
    except OSError:
        pass

def locked(fd):
    rng.choice([lambda: fcntl.flock(fd, rng.choice([5, 6, 8])), lambda: fcntl.lockf(fd, rng.choice([5, 6, 8]), 10, 20)])()

def renamed(i):
    path = files[i][0] + 'r'
    os.rename(files[i][0], path)
    files[i] = path, files[i][1]

def linked(i):
    path = files[i][0] + 'l'
    os.link(files[i][0], path)
    os.unlink(files[i][0])
    files[i] = path, files[i][1]

def removed(i):
    os.unlink(files[i][0])

def replaced(i):
    os.rename(files[i][0], files[i][0] + 'old')
    open(files[i][0], 'wb').close()

def opened(i):
    os.close(files[i][1])
    files[i] = file()

def twice(i):
    os.dup2(files[i][1], files[rng.randrange(len(files))][1], inheritable=rng.random() < 0.5)

CHANGES = [lambda i: os.lseek(files[i][1], rng.randrange(5000), 0), lambda i: os.read(files[i][1], 7),
           lambda i: fcntl.fcntl(files[i][1], fcntl.F_SETFL, rng.choice([0, os.O_NONBLOCK, os.O_APPEND])),
           lambda i: os.set_inheritable(files[i][1], rng.random() < 0.5), lambda i: locked(files[i][1]),
           lambda i: fcntl.fcntl(files[i][1], fcntl.F_SETOWN, rng.choice([0, os.getpid()])),
           lambda i: fcntl.fcntl(files[i][1], 10, rng.choice([0, signal.SIGUSR2])),
           lambda i: os.ftruncate(files[i][1], rng.randrange(9000)), lambda i: os.fchmod(files[i][1], 0o600 + rng.randrange(64)),
           lambda i: os.set_inheritable(rng.choice(others), rng.random() < 0.5),
           lambda i: fcntl.fcntl(lease, 1024, rng.choice([0, 2])),
           renamed, linked, removed, replaced, opened, twice]
turn = 0
while True:
    os.mkdir('%s/ready%d%s' % (sys.argv[1], turn, '' if child else 'c'))    # which takes no descriptor
    signal.sigwait({signal.SIGUSR1})
    turn += 1
    rng = random.Random(turn * 2 + (child != 0))
    for _ in range(12):
        refuses(rng.choice(CHANGES), rng.randrange(len(files)))
    if child:
        os.kill(child, signal.SIGUSR1)
"""
TURNS = 14
# Numbers of other objects, in whichever order these were met.
REFERENCES = ("ghost", "stored", "inode")


def descriptors(box, image):
    """What the checkpoint says of every descriptor, by its table and number."""
    res = box.run_ckpt("show", "-D", image, "fds", "--json")
    check(res.code == 0, f"{res}")
    saved = json.loads(res.out)
    objects = {o["id"]: {**o, "id": 0, "state": {k: bool(v) if k in REFERENCES else v for k, v in o["state"].items()}}
               for o in saved["objects"]}
    first = {}
    return {(i, f["fd"]): {**f, "object": objects[f["object"]], "of": first.setdefault(f["object"], (i, f["fd"]))}
            for i, table in enumerate(saved["descriptor_tables"]) for f in table["fds"]}


def differ(a, b):
    return [(k, [d.get(k) for d in (a, b)]) for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)]


def body(box):
    with open(os.path.join(box.dir, "log"), "w") as log:
        p = box.spawn(["/usr/bin/python3", "-c", PROGRAM, box.dir], log, log)
    p.returncode = 0
    target = Target(box, p.pid, box.dir, "program")

    def ready(turn):
        box.wait(lambda: all(os.path.exists(target.file(f"ready{turn}{c}")) for c in ("", "c")),
                 f"turn {turn}: {read(target.file('log'))}")

    ready(0)
    series = HeldSeries(box, target, os.path.join(box.dir, "series"))
    told = [series.step() for _ in range(4)]
    changed, tables = set(), []
    for turn in range(TURNS):
        told.append(series.step())
        asked = os.path.join(box.dir, f"asked{turn}")
        res = box.run([os.path.join(BUILD, "ckpt-test"), "dump", "-t", str(target.pid), "-D", asked], name="asked")
        check(res.code == 0, f"{res}")
        tables.append(descriptors(box, asked))
        other = differ(descriptors(box, series.image()), tables[-1])
        check(not other, f"turn {turn}: {other}")
        if turn:
            changed |= {key[1] for key, _ in differ(tables[-2], tables[-1])}
        os.kill(target.pid, 10)
        ready(turn + 1)
    # Otherwise this compares nothing.
    check(len(changed) > 20, f"never changed but for {changed}")
    series.end()
    if not any(told):
        raise Skip("a kernel with BPF iterators of processes")


main(body)
