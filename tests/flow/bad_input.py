# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""Wrong input: one clear error with its id, cause and remedy; the exit status says whether anything
was touched; the program runs on unharmed and no litter is left."""
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess

from sandbox import BUILD, check, main, pids, read, state

SIMPLE = os.path.join(BUILD, "tests/kind/task_simple")


# A shell might wait for its child after all.
ZOMBIE = """
import os, signal
child = os.fork()
if not child:
    os._exit(3)
print(child, flush=True)
signal.pause()
"""


def expect(res, code, error, *texts):
    check(res.code == code, f"exit status {code} expected: {res}")
    check(len(re.findall(r"\bE-[A-Z-]+: ", res.err)) == 1, f"one error expected: {res}")
    check(re.search(rf"^ckpt: {error}: \S.*\n  → \S", res.err, re.M), f"{error} with a remedy expected: {res}")
    for text in texts:
        check(text in res.err, f"'{text}' expected: {res}")


def no_litter(path):
    check(not os.path.exists(path) or os.listdir(path) == [], f"litter: {path}: "
          f"{os.listdir(path) if os.path.isdir(path) else 'a file'}")


def usage(box):
    for args in (["dump"], ["dump", "-t", "1"], ["dump", "-D", "/tmp/x"], ["restore"], ["nonsense"],
                 ["dump", "-t", "abc", "-D", box.image], ["dump", "-t", "-5", "-D", box.image],
                 ["dump", "-t", "0", "-D", box.image], ["dump", "--nonsense", "-t", "1", "-D", box.image],
                 ["dump", "-t", "99999999999999999999", "-D", box.image], []):
        res = box.run_ckpt(*args)
        check(res.code == 2, f"exit status 2 expected: {res}")
        check(res.err.strip(), f"usage is told on stderr: {res}")
        no_litter(box.image)


# What a newcomer mistypes: the exit status, and what the message must say, its remedy included.
MISTAKES = (
    ("dump -t 7 -D IMAGE --track --tracker best", 2, "--tracker takes kmod, wp-async, soft-dirty or none"),
    ("dump -t 7 -D IMAGE --every soon", 2, "500ms, 10s, 5m"),
    ("dump -t 7 -D IMAGE --keep 3", 2, "--every"),
    ("track", 2, "start, stop or status"), ("track begin", 2, 'not "begin"'), ("track start", 2, "--pid"),
    ("track start -t 7 --tracker best", 2, "--tracker takes"),
    ("track status -t 7", 3, "ckpt track start -t 7"),
    ("restore -D /no/such", 3, "name the directory of a finished checkpoint"),
    ("merge -D /no/such -o IMAGE", 3, "name the directory of a finished checkpoint"),
    ("receive", 2, "--listen, --unix and --stdio"),
    ("receive --listen 127.0.0.1:0", 2, "ckpt keygen"),
    ("receive --listen 127.0.0.1:0 --key /no/such", 2, "→ make a pair: ckpt keygen -o DIR"),
    ("receive --listen 127.0.0.1:x --insecure", 2, "→ name an address of this node"),
    ("receive --listen 192.0.2.1:99 --insecure", 1, "→ name an address of this node"),
    ("receive --unix /no/such/sock", 1, "→ name another place"),
    ("receive --unix /tmp/x --hook-timeout soon", 2, "--hook-timeout takes a time like 10s"),
    ("migrate -t 7 --to unix:/x --max-downtime 1d", 2, "--max-downtime takes a time like 20ms"),
    ("migrate -t 7 --to unix:/x --resolve-time -1", 2, "--resolve-time takes a time like 10s"),
    *((f"dump -t 7 -D IMAGE --max-pause {t}", 2, f'--max-pause takes a time like 20ms, not "{t}"')
      for t in ("soon", "0", "0.1us", "-1ms", "1d", "1msec", "0x1", "1e3", "inf", "nan", ".", "ms", "99999999h")),
    *((f"dump -t 7 -D IMAGE --every {t}", 2, f'"{t}" is not a time') for t in ("0", "0.5ms", "999us")),
    ("migrate -t 7", 2, "--to"), ("migrate -t 7 --to 127.0.0.1", 2, "ckpt keygen"),
    ("migrate -t 7 --to 127.0.0.1:1 --key /no/such", 2, "→ make a pair: ckpt keygen -o DIR"),
    ("migrate -t 7 --to 127.0.0.1:1 --insecure", 1, "→ start the peer there: ckpt receive"),
    ("migrate -t 7 --to unix:/no/such", 1, "→ start the peer: ckpt receive --unix /no/such"),
    ("keygen", 2, "--psk"), ("keygen -o /proc/no", 2, "→ name a place that can be written"),
)
# Without root: the same, of commands that need it.
UNPRIVILEGED = (
    ("dump -t 1 -D IMAGE", 3, "→ run ckpt as root"), ("restore -D /no/such", 3, "→ run ckpt as root"),
    ("migrate -t 1 --to unix:/no/such", 3, "→ run ckpt as root"), ("receive --unix IMAGE", 3, "→ run ckpt as root"),
    ("track start -t 1", 3, "→ run ckpt as root"), ("show -D HIDDEN/x", 3, "→ run ckpt as root"),
)


def mistakes(box):
    hidden = os.path.join(box.dir, "hidden")
    os.mkdir(hidden, 0o700)
    copy = os.path.join(box.dir, "ckpt-copy")       # the build tree may lie where nobody can look
    shutil.copy(box.ckpt, copy)
    os.chmod(copy, 0o755)
    for prefix, table in (([box.ckpt], MISTAKES),
                          (["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", copy], UNPRIVILEGED)):
        for line, code, text in table:
            words = line.replace("IMAGE", box.image).replace("HIDDEN", hidden).split()
            res = box.run(prefix + words)
            expect(res, code, r"E-[A-Z-]+", text)
            no_litter(box.image)
    # The socket of a program that lives is not taken away from it.
    path = os.path.join(box.dir, "taken")
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(path)
        taken.listen()
        expect(box.run_ckpt("receive", "--unix", path), 1, "E-PEER", "→ another program does")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    # A second pair over the first would lock the other node out.
    keys = os.path.join(box.dir, "keys")
    check(box.run_ckpt("keygen", "-o", keys).code == 0, "a pair of keys")
    before = read(os.path.join(keys, "source.pem"))
    expect(box.run_ckpt("keygen", "-o", keys), 2, "E-USAGE", "→ use that key")
    check(read(os.path.join(keys, "source.pem")) == before, "the first pair is as it was")


def targets(box):
    def dump(pid):
        res = box.run_ckpt("dump", "-t", pid, "-D", box.image)
        no_litter(box.image)
        return res

    free = max(pids()) + 5000
    expect(dump(free), 3, "E-NO-SUCH-PID", str(free))
    expect(dump(1), 3, "E-BAD-TARGET")
    expect(dump(os.getpid()), 3, "E-BAD-TARGET")
    # A zombie, of a parent that does not wait for it.
    path = os.path.join(box.dir, "zombie")
    with open(path, "w") as f:
        parent = box.spawn(["/usr/bin/python3", "-c", ZOMBIE], f, None)
    parent.returncode = 0
    box.wait(lambda: read(path).strip() and state(int(read(path))) == "Z", "a zombie")
    expect(dump(int(read(path))), 3, "E-BAD-TARGET", "zombie")
    os.kill(parent.pid, signal.SIGKILL)
    box.wait_pid(parent.pid, "end of the zombie's parent")
    # One that a debugger holds.
    target = box.start(SIMPLE, subdir="traced").wait_ready()
    libc = ctypes.CDLL(None, use_errno=True)
    ready_r, ready_w = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        ok = libc.ptrace(0x4206, target.pid, None, None) == 0       # PTRACE_SEIZE
        os.write(ready_w, b"1" if ok else b"0")
        signal.pause()
        os._exit(0)
    check(os.read(ready_r, 1) == b"1", "the program is traced")
    expect(dump(target.pid), 3, "E-ALREADY-TRACED", str(target.pid), str(tracer))
    os.kill(tracer, signal.SIGKILL)
    box.wait_pid(tracer, "end of the tracer")
    target.finish()


def directories(box):
    target = box.start(SIMPLE, subdir="dirs").wait_ready()

    def dump(path):
        res = box.run_ckpt("dump", "-t", target.pid, "-D", path)
        box.wait(lambda: state(target.pid) == "S", "the program is unharmed", 5)
        return res

    # Not empty: what is in it stays.
    full = os.path.join(box.dir, "full")
    os.mkdir(full)
    with open(os.path.join(full, "precious"), "w") as f:
        f.write("data")
    expect(dump(full), 3, "E-IMAGE-DIR", full)
    check(os.listdir(full) == ["precious"], "foreign files are left alone")
    # A file of that name.
    path = os.path.join(box.dir, "file")
    open(path, "w").close()
    expect(dump(path), 3, "E-IMAGE-DIR", path)
    # An existing checkpoint is not overwritten.
    image = os.path.join(box.dir, "once")
    box.dump(target, image=image)
    files = {n: os.stat(os.path.join(image, n)).st_mtime_ns for n in os.listdir(image)}
    expect(dump(image), 3, "E-IMAGE-DIR", image)
    check(files == {n: os.stat(os.path.join(image, n)).st_mtime_ns for n in os.listdir(image)},
          "the first checkpoint is untouched")
    # It is private.
    for n in os.listdir(image):
        mode = os.stat(os.path.join(image, n)).st_mode & 0o777
        check(mode & 0o077 == 0, f"{n} of an image has mode {mode:o}")
    # Read-only, and full.
    for options, error, codes in (("ro", "E-IMAGE-DIR", (3,)),
                                  ("size=64k", "E-IMAGE-WRITE", (1,)),
                                  ("size=64k,nr_inodes=2", "E-IMAGE-(WRITE|DIR)", (1, 3))):
        mount = os.path.join(box.dir, "mount")
        os.makedirs(mount, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount], check=True)
        res = dump(os.path.join(mount, "image"))
        check(res.code in codes, f"{options}: exit status {codes} expected: {res}")
        check(re.search(error, res.err), f"{options}: {error} expected: {res}")
        no_litter(os.path.join(mount, "image"))
        if options.startswith("size"):
            # The same directory can be used when there is room.
            subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=100", mount], check=True)
            box.dump(target, image=os.path.join(mount, "image"))
        subprocess.run(["umount", "-l", mount], check=True)
    target.finish()


def images(box):
    """Restore, show and verify of what is no whole checkpoint."""
    target = box.start(SIMPLE, subdir="images").wait_ready()
    good = os.path.join(box.dir, "good")
    box.dump(target, "--kill", image=good)
    check(box.run_ckpt("verify", "-D", good).code == 0, "a whole image verifies")

    def refused(image, error, *texts):
        before = pids()
        for cmd in ("restore", "verify"):
            res = box.run_ckpt(cmd, "-D", image, *(["--detach"] if cmd == "restore" else []))
            check(res.code in (1, 3), f"{cmd} of {image} is refused: {res}")
            check(re.search(rf"ckpt: {error}: ", res.err), f"{cmd}: {error} expected: {res}")
            for text in texts:
                check(text in res.err, f"{cmd}: '{text}' expected: {res}")
        box.wait(lambda: set(pids()) <= set(before), "nothing was created")

    refused(os.path.join(box.dir, "nowhere"), "E-IMAGE-MISSING", "nowhere")
    empty = os.path.join(box.dir, "empty")
    os.mkdir(empty)
    refused(empty, "E-IMAGE-MISSING", "empty")
    foreign = os.path.join(box.dir, "foreign")
    os.mkdir(foreign)
    for name in os.listdir(good):
        with open(os.path.join(foreign, name), "w") as f:
            f.write("no checkpoint at all, but a text of some length\n" * 100)
    refused(foreign, "E-IMAGE-(CORRUPT|MISSING|VERSION)")

    rng = random.Random(7)
    damaged = os.path.join(box.dir, "damaged")
    for name in sorted(os.listdir(good)):
        size = os.path.getsize(os.path.join(good, name))
        cuts = sorted({0, 1, size // 2, size - 1} | {rng.randrange(size) for _ in range(3)})
        for cut in cuts:
            shutil.copytree(good, damaged)
            os.truncate(os.path.join(damaged, name), cut)
            refused(damaged, "E-IMAGE-(CORRUPT|MISSING|VERSION)")
            shutil.rmtree(damaged)
        for _ in range(8):
            at = rng.randrange(size)
            shutil.copytree(good, damaged)
            with open(os.path.join(damaged, name), "r+b") as f:
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 1 << rng.randrange(8)]))
            res = box.run_ckpt("verify", "-D", damaged)
            check(res.code == 3 and re.search("E-IMAGE-(CORRUPT|VERSION|MISSING)", res.err),
                  f"verify finds a flipped bit at byte {at} of {name}: {res}")
            shutil.rmtree(damaged)
        shutil.copytree(good, damaged)
        os.unlink(os.path.join(damaged, name))
        refused(damaged, "E-IMAGE-(CORRUPT|MISSING)")
        shutil.rmtree(damaged)
    # After all that the good one works, once.
    box.restore(image=good)
    res = box.run_ckpt("restore", "-D", good, "--detach")
    expect(res, 3, "E-PID-TAKEN", str(target.pid), "task_simple", "--pidns")
    target.finish()


def exits_meanwhile(box):
    """The program ends at some instant of its dump."""
    rng = random.Random(11)
    for i in range(40):
        target = box.start(SIMPLE, subdir=f"exit{i}").wait_ready()
        image = os.path.join(box.dir, f"gone{i}")
        err = os.path.join(box.dir, f"gone{i}.err")
        with open(err, "w") as f:
            p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", image], f, f)
        p.returncode = 0
        signal.sigtimedwait({signal.SIGUSR1}, rng.uniform(0, 0.02))
        os.kill(target.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(box.wait_pid(p.pid, f"end of dump {i}", 20))
        box.wait_pid(target.pid, "end of the program")
        text = read(err)
        if code == 0:
            check(box.run_ckpt("verify", "-D", image).code == 0, "a dump that succeeded is whole")
            continue
        check(code in (1, 3), f"dump {i}: exit status {code}: {text}")
        check(re.search(r"^ckpt: E-(TARGET-GONE|NO-SUCH-PID|BAD-TARGET): ", text, re.M),
              f"dump {i}: E-TARGET-GONE expected: {text}")
        no_litter(image)


def body(box):
    usage(box)
    mistakes(box)
    targets(box)
    directories(box)
    images(box)
    exits_meanwhile(box)


main(body)
