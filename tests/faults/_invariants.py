# SPDX-License-Identifier: GPL-2.0-only
"""What must hold after ckpt failed, was stopped or died anywhere. One file, so that it can be read
and argued about; the scripts beside it only choose where ckpt is disturbed.

A program that was to be saved, and is not reported as saved and ended:
  - every task of it is there, runs, is traced by nobody and not stopped;
  - it maps what it mapped, and nothing of ckpt; no range is left registered with a userfaultfd;
    (the exceptions: ckpt killed in the moment between two threads of a process, when nobody is
    inside to unmap the arena, or one of the two by which many threads are entered; nothing runs in
    it, and the next dump removes it; and what strict seccomp confines ends when ckpt dies while it runs code of ckpt, a limit that README names)
  - it has the descriptors, signal masks and handlers, groups, limits and filters that it had.
A program that was to be restored, and is not reported as restored:
  - no task of it is there.
Everything around it:
  - no process, cgroup, nftables table, mount, named socket, System V segment or file is new,
    save the directory that was named for the image, and what is in it is no checkpoint unless it
    is a whole one;
  - what is there of bystanders goes on.
"""
import os
import random
import re
import struct
import subprocess

from sandbox import BUILD, Failure, check, pids, read, state, threads, tree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEST_BUILD = os.path.join(BUILD, "ckpt-test")
# WALK_SEED: in another order, later, and not always where a point is met first (make check-faults).
RANDOM = random.Random(os.environ["WALK_SEED"]) if os.environ.get("WALK_SEED") else None
PATIENCE = 30       # seconds for what only has to end, or to come to rest


def said(box):
    """What the ckpt that was disturbed last has said, for a failure's text."""
    return f"\n  {box.last}" if box.last else ""


# ---- the points, from the program itself ---------------------------------------------------------

def section(path, wanted):
    """The bytes of a section of a 64-bit ELF file."""
    with open(path, "rb") as f:
        data = f.read()
    shoff, = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", data, 0x3a)

    def header(i):
        at = shoff + i * size
        name, = struct.unpack_from("<I", data, at)
        start, length = struct.unpack_from("<QQ", data, at + 0x18)
        return name, start, length

    _, strings, _ = header(names_at)
    for i in range(count):
        name, start, length = header(i)
        end = data.index(b"\0", strings + name)
        if data[strings + name:end].decode() == wanted:
            return data[start:start + length]
    return b""


def points():
    names = section(TEST_BUILD, "ckpt_fault_points").split(b"\0")
    return sorted({n.decode() for n in names if n})


# Not failures: they choose another way, and have tests of their own.
SWITCHES = {"restore.vdso", "restore.boot", "delta.lost", "kern.threads", "kern.files", "kern.process", "kern.mmwatch",
            "kern.faultlog", "track.told", "track.small"}
# Which script of this folder walks a point; the first rule that matches.
WALKS = [("restore", r"restore\."), ("migrate", r"migrate\.|receive\."),
         ("track", r"track\.|keeper\.|every\.|merge\."), ("dump", r"dump\.|image\.|inject\.|freeze\."),
         ("tcp", r"tcp\.")]


def walk_of(point):
    return next((walk for walk, rule in WALKS if re.match(rule, point)), None)


def points_of(walk):
    names = [p for p in points() if p not in SWITCHES and walk_of(p) == walk]
    if RANDOM:
        RANDOM.shuffle(names)
    return names


def unmet(names, hit):
    """Points that a walk has not come to; a random one need not come to all."""
    return [] if RANDOM else [p for p in names if p not in hit]


# ---- a program, as the kernel shows it ------------------------------------------------------------

def mappings(pid):
    """What is mapped. The heap and stacks may grow, so their ends do not count."""
    out = []
    for line in read(f"/proc/{pid}/maps").splitlines():
        fields = line.split(None, 5)
        if len(fields) < 5:
            continue
        name = fields[5] if len(fields) > 5 else ""
        where = fields[0] if not name.startswith(("[heap]", "[stack]")) else fields[0].split("-")[0]
        if name.startswith("[stack]"):
            where = fields[0].split("-")[1]
        out.append((where, fields[1], name))
    return out


def ckpt_maps(pid):
    """Mappings that only ckpt can have made: the arena is shared, anonymous and executable."""
    return [l for l in read(f"/proc/{pid}/maps").splitlines() if "rwxs" in l]


def watched(pid):
    """Mappings that a userfaultfd still watches."""
    flags = [l for l in read(f"/proc/{pid}/smaps").splitlines() if l.startswith("VmFlags:")]
    return [f for f in flags if {"um", "uw", "ui"} & set(f.split())]


def descriptors(pid):
    out = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                flags = re.search(r"flags:\s*(\S+)", read(f"/proc/{pid}/fdinfo/{fd}"))
                out[int(fd)] = (os.readlink(f"/proc/{pid}/fd/{fd}"), flags.group(1) if flags else "")
            except OSError:
                pass
    except OSError:
        pass
    return out


KEPT = ("Umask", "TracerPid", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapEff",
        "SigBlk", "SigIgn", "SigCgt")


def awaited(pid, tid):
    """The signals that a thread waits for in rt_sigtimedwait(2), by number minus one; 0 when it waits for none."""
    call = read(f"/proc/{pid}/task/{tid}/syscall").split()
    if not call or call[0] != "128":
        return 0
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            mem.seek(int(call[1], 16))
            return int.from_bytes(mem.read(8), "little")
    except OSError:
        return 0


def status_of(pid, tid):
    """While a thread waits for signals, the kernel shows a mask without them; here it counts with them, so that one
    about to wait, or stopped as it waited, is the same."""
    waited = awaited(pid, tid)
    text = read(f"/proc/{pid}/task/{tid}/status")
    waited |= awaited(pid, tid)
    out = {k: m.group(1).strip() for k in KEPT if (m := re.search(rf"^{k}:(.*)$", text, re.M))}
    if "SigBlk" in out:
        out["SigBlk"] = f"{int(out['SigBlk'], 16) | waited:016x}"
    out["stands still"] = "T" if state(pid, tid) in ("T", "t") else ""
    return out


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return None


def look(pid):
    """One process."""
    stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return {"maps": mappings(pid), "fds": descriptors(pid),
            "threads": {t: status_of(pid, t) for t in threads(pid) if state(pid, t) != "Z"},
            "ids": stat[1:4] if stat else None, "limits": read(f"/proc/{pid}/limits"),
            "cgroup": read(f"/proc/{pid}/cgroup"), "oom": read(f"/proc/{pid}/oom_score_adj"),
            "cwd": link(f"/proc/{pid}/cwd")}


class Program:
    """A program that must go on as if nothing had been. @churns: it maps anonymous memory and makes
    threads of its own all the time, so these do not count."""

    def __init__(self, box, target, churns=False):
        self.box, self.target, self.churns = box, target, churns
        self.arena = 0          # the exception above is to be made for so many
        self.moved = False      # it was restored: pipes, sockets and removed files have new names
        if not churns:          # a thread that waits for a signal shows another mask than one about to
            box.wait(lambda: (state(target.pid) == "T" or (state(target.pid) == "S" and
                                                           read(f"/proc/{target.pid}/syscall").startswith("128 ")))
                     and all(state(p) in ("S", "T", "Z") for p in tree(target.pid)),
                     f"{target.name} waits for its signal, and so do all below it")
        self.before = self.look()

    def look(self):
        return {p: look(p) for p in tree(self.target.pid)}

    def wrong(self):
        """The first thing that is not as it was; None when all is."""
        now = self.look()
        if set(now) != set(self.before):
            return f"its tasks were {sorted(self.before)}, they are {sorted(now)}"
        for pid, was in self.before.items():
            for key, value in was.items():
                if self.churns and key == "maps":
                    value, now[pid][key] = ([m for m in maps if m[1:] not in CHURN] for maps in (value, now[pid][key]))
                if self.churns and key == "threads":     # it makes short-lived ones; busy.lives() looks at the others
                    common = set(value) & set(now[pid][key])
                    value, now[pid][key] = ({t: ts[t] for t in common} for ts in (value, now[pid][key]))
                if self.moved and key == "maps":
                    value, now[pid][key] = (joined(maps) for maps in (value, now[pid][key]))
                if self.moved and key == "fds":
                    value, now[pid][key] = (without_numbers(fds) for fds in (value, now[pid][key]))
                if key == "maps" and 0 < len(ckpt_maps(pid)) <= self.arena:
                    now[pid][key] = [m for m in now[pid][key] if m[1] != "rwxs"]
                if now[pid][key] != value:
                    return f"{key} of task {pid} is not as before: {difference(value, now[pid][key])}"
            if watched(pid):
                return f"task {pid} is still watched: {watched(pid)}"
        return None

    def unharmed(self, after, arena=0, moved=False):
        """Waits, for a program may be in the middle of opening a file."""
        why = [None]
        self.arena, self.moved = arena, moved

        def fine():
            why[0] = self.wrong()
            return why[0] is None
        try:
            self.box.wait(fine, "", timeout=PATIENCE, step=0.002)
        except Failure:
            check(False, f"{after}: {why[0]}{self.target.why()}{said(self.box)}")
        check(not os.path.exists(self.target.file("failures")), f"{after}: the program is hurt{self.target.why()}")


def without_numbers(fds):
    return {fd: ("(deleted)", flags[-1]) if name.endswith("(deleted)") else (re.sub(r":\[\d+\]", "", name), flags)
            for fd, (name, flags) in fds.items()}


def joined(maps):
    """Neighbours of one sort are one: the kernel keeps some of them apart for what they went through, such as a fork."""
    out = []
    for where, flags, name in maps:
        begin, _, end = where.partition("-")
        if out and end and not name and out[-1][1:] == (flags, name) and out[-1][0].endswith("-" + begin):
            out[-1] = (out[-1][0].partition("-")[0] + "-" + end, flags, name)
        else:
            out.append((where, flags, name))
    return out


CHURN = (("rw-p", ""), ("---p", ""))


def difference(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return {k: (a.get(k), b.get(k)) for k in sorted(set(a) | set(b), key=str) if a.get(k) != b.get(k)}
    if isinstance(a, list) and isinstance(b, list):
        return {"gone": [x for x in a if x not in b], "new": [x for x in b if x not in a]}
    return (a, b)


# ---- everything else ------------------------------------------------------------------------------

def files_below(*folders, skip=()):
    out = set()
    for folder in folders:
        for where, dirs, names in os.walk(folder):
            dirs[:] = [d for d in dirs if os.path.join(where, d) not in skip]
            # What tests/lib keeps of the output of commands is the test's own.
            out.update(os.path.join(where, n) for n in (*dirs, *names) if not n.endswith((".out", ".err", ".met")))
    return out


def cgroups():
    out = set()
    for line in read("/proc/self/mountinfo").splitlines():
        if " - cgroup2 " in line:
            base = line.split()[4]
            for where, dirs, _ in os.walk(base):
                dirs[:] = [d for d in dirs if not d.startswith("ckpt-test-")]   # other tests
                out.update(os.path.join(where, d) for d in dirs if "ckpt" in d)
    return out


def tables():
    """nftables of this network namespace (every walk has its own)."""
    res = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    return res.stdout.split("\n") if res.returncode == 0 else []


class World:
    """What is around the program, in this namespace; @ours: folders where the test itself writes."""

    def __init__(self, box, ours=()):
        self.box, self.ours = box, tuple(ours)
        self.before = self.look()

    def look(self):
        return {"processes": set(pids()), "cgroups": cgroups(), "nft tables": set(tables()),
                "mounts": {l.split(" ", 1)[1] for l in read("/proc/self/mountinfo").splitlines()},
                "sockets": {l.split()[-1] for l in read("/proc/net/unix").splitlines()[1:] if len(l.split()) > 7},
                "segments": {tuple(l.split()[:2]) for l in read("/proc/sysvipc/shm").splitlines()[1:]},
                "files": files_below("/run", "/dev/shm", self.box.dir, skip=self.ours)}

    def new(self):
        now = self.look()
        return {k: sorted(map(str, now[k] - v)) for k, v in self.before.items() if now[k] - v}

    def clean(self, after, allowed=lambda kind, name: False):
        """Nothing is new; what just died may take a moment to go."""
        left = [{}]

        def fine():
            left[0] = {k: [n for n in v if not allowed(k, n)] for k, v in self.new().items()}
            return not any(left[0].values())
        try:
            self.box.wait(fine, "", timeout=PATIENCE, step=0.002)
        except Failure:
            check(False, f"{after}: litter: {left[0]}{said(self.box)}")


def no_half_image(box, image, after):
    """What is in an image directory that ckpt left is a whole checkpoint, or visibly none."""
    if not os.path.isdir(image) or not os.listdir(image):
        return
    whole = box.run_ckpt("verify", "-D", image).code == 0
    check(whole or box.run_ckpt("show", "-D", image).code == 3, f"{after}: a torn image is shown")
    if not whole:
        res = box.run_ckpt("restore", "-D", image, "--detach")
        check(res.code == 3, f"{after}: a torn image is restored: {res}")
