# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=150
"""Changed images with right checksums, given to ckpt restore: each is refused with one clear error, or restored.
ckpt never crashes; no file but those of the program's own directory is touched, no process but its own.

SOAK_IMAGES says how many; make soak runs thousands.
"""
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../faults")]
from _invariants import World, cgroups  # noqa: E402
from _walk import private_world  # noqa: E402
from sandbox import BUILD, Failure, check, main, pids, read  # noqa: E402

COUNT = int(os.environ.get("SOAK_IMAGES") or "24")
RESEAL = os.path.join(BUILD, "tests/flow/reseal")
PROGRAMS = ("task_simple", "task_timers", "task_tree", "fd_epoll", "fd_unix_pair", "fd_reg", "fd_pty", "vma_private")
NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 4095, 4096, 4097, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 47,
           (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def frames(data):
    at = 8
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        yield kind, at + 16, length
        at += 16 + (length + 7) // 8 * 8


def values(msg, begin, end, depth=0):
    """The values of a message and of those inside: ("number" | "bytes", from, to)."""
    at, out = begin, []

    def varint(at):
        value = shift = 0
        while at < end and shift < 70:
            value |= (msg[at] & 0x7f) << shift
            shift += 7
            at += 1
            if not msg[at - 1] & 0x80:
                return value, at
        raise ValueError
    try:
        while at < end:
            key, at = varint(at)
            if key >> 3 == 0 or key & 7 not in (0, 1, 2, 5):
                raise ValueError
            if key & 7 == 2:
                length, at = varint(at)
                if length > end - at:
                    raise ValueError
                inner = values(msg, at, at + length, depth + 1) if depth < 5 else []
                out += inner or [("bytes", at, at + length)]
                at += length
            else:
                to = varint(at)[1] if key & 7 == 0 else at + (8 if key & 7 == 1 else 4)
                out.append(("number", at, to))
                at = to
    except ValueError:
        return []
    return out


def in_room(n, room):
    """A varint of exactly @room bytes, cut if need be."""
    n &= (1 << 7 * room) - 1
    return bytes((n >> 7 * i & 0x7f) | (0x80 if i < room - 1 else 0) for i in range(room))


def mutate(rng, data):
    data = bytearray(data)
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind, begin, length = rng.choice([f for f in frames(data) if f[2]])
        found = values(data, begin, begin + length)
        if not found:
            continue
        what, a, b = rng.choice(found)
        if a == b:
            continue
        if what == "number":
            data[a:b] = in_room(rng.choice(NUMBERS), b - a) if rng.random() < 0.7 else in_room(rng.getrandbits(64), b - a)
        else:
            # Registers are the program's own business, but their length is not.
            for _ in range(rng.choice((1, 1, 4))):
                data[rng.randrange(a, b)] = rng.choice((0, 1, 0x2f, 0x2e, 0x80, 0xff, rng.randrange(256)))
        said.append(f"record {kind} {what} at {a - begin}+{b - a}")
    return bytes(data), ", ".join(said)


def forbidden(box):
    """Files that no image of these programs may change: (path, inode, size, times, mode)."""
    out = set()
    for folder in ("/", "/etc", "/root", "/home", "/var", "/usr", "/opt", "/srv", "/boot", box.dir + "/canary"):
        for where, dirs, names in os.walk(folder):
            if folder not in ("/etc", box.dir + "/canary"):
                dirs[:], names = [], [*names, *dirs]    # their own entries
            if folder in ("/", "/var"):
                names = []                              # /tmp and others change all the time
            for name in (*dirs, *names):
                try:
                    st = os.lstat(os.path.join(where, name))
                    out.add((os.path.join(where, name), st.st_ino, st.st_size, st.st_mtime_ns, st.st_mode, st.st_uid))
                except OSError:
                    pass
    return out


def end_of(box, known):
    for _ in range(2000):
        left = [p for p in pids() if p not in known]
        if not left:
            return
        for p in left:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        box.reap()
        signal.sigtimedwait({signal.SIGCHLD}, 0.01)
    check(False, f"processes cannot be ended: {[(p, read(f'/proc/{p}/comm')) for p in left]}")


def try_one(box, rng, image, known, canary):
    copy = os.path.join(box.dir, "copy")
    shutil.copytree(image, copy)
    with open(copy + "/records", "rb") as f:
        data = f.read()
    changed, what = mutate(rng, data)
    with open(copy + "/records", "wb") as f:
        f.write(changed)
    check(box.run([RESEAL, copy, image + "/records"]).code == 0, "reseal")
    env = dict(os.environ, ASAN_OPTIONS="allocator_may_return_null=1")
    try:
        res = box.run_ckpt("restore", "-D", copy, "--detach", timeout=30, env=env)
    except Failure:
        check(False, f"{what}: ckpt restore does not end")
    check(res.code in (0, 1, 3), f"{what}: {res}")
    if res.code:
        check(re.match(r"(ckpt: (note|warning): .*\n)*ckpt: E-[A-Z-]+: ", res.err) and "E-INTERNAL" not in res.err,
              f"{what}: one clear error: {res}")
    check(os.path.exists(f"/proc/{canary}"), f"{what}: a bystander is gone")
    check("T (" not in read(f"/proc/{canary}/status"), f"{what}: a bystander is stopped")
    if res.code:
        left = [p for p in pids() if p not in known]
        box.wait(lambda: not [p for p in pids() if p not in known], f"{what}: processes are left after a refusal: {left}", 20)
    end_of(box, known)
    shutil.rmtree(copy)
    return res.code


def body(box):
    private_world()
    rng = random.Random(int(os.environ.get("SOAK_SEED") or "99"))
    os.mkdir(box.dir + "/canary")
    for i in range(20):
        with open(f"{box.dir}/canary/{i}", "w") as f:
            f.write("untouched")
    p = box.spawn(["sleep", "100000"], subprocess.DEVNULL, subprocess.DEVNULL)
    p.returncode = 0
    count = {0: 0, 1: 0, 3: 0}
    known, files = set(pids()), forbidden(box)
    for n, name in enumerate(PROGRAMS):
        inner = os.path.join(box.dir, name)
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name).wait_ready()
        image = os.path.join(box.dir, f"image-{name}")
        box.dump(target, "--kill", image=image)
        end_of(box, known)
        world, groups = World(box, ours=(inner,)), cgroups()
        for _ in range(COUNT // len(PROGRAMS) + (n < COUNT % len(PROGRAMS))):
            count[try_one(box, rng, image, known, p.pid)] += 1
        world.clean(f"changed images of {name}", allowed=lambda kind, what: kind == "sockets" and "ckpt-test" in what)
        check(cgroups() == groups, f"cgroups after {name}: {cgroups() ^ groups}")
    now = forbidden(box)
    check(now == files, f"files were changed: {sorted(now ^ files)[:10]}")
    box.log(f"{count[0]} were restored, {count[1] + count[3]} refused")
    check(count[0] and count[1] + count[3] or COUNT < 20, f"some are restored, some refused: {count}")
    os.kill(p.pid, signal.SIGKILL)


main(body)
