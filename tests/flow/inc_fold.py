# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""dump --every folds its chain in the background: checkpoints are made meanwhile, those that are kept, what the fold made and
the newest can be restored, whatever ckpt is killed in; what goes wrong with a fold leaves the series as it was."""
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../faults")]
from _invariants import TEST_BUILD  # noqa: E402
from sandbox import BUILD, check, main, read  # noqa: E402
from series import bases, chain, complete, litter  # noqa: E402

MUTATE = os.path.join(BUILD, "tests/flow/mutate")
FLAT_AT = 0x640000000000
FLAT = os.path.join(BUILD, "tests/flow/flat")
KEEP = 3
AT = 16         # ancestors, when they hold as much as the first
AT_MOST = 64    # ancestors


class Series:
    """A series of a program, made by the test build with some fault."""

    def __init__(self, box, target, where):
        self.box, self.target, self.dir = box, target, where
        self.met, self.log, self.p = where + ".met", where + ".log", None

    def args(self, *args):
        return ["dump", "-t", str(self.target.pid), "-D", self.dir, "--every", "1ms", "--keep", str(KEEP), *map(str, args)]

    def start(self, fault, *args):
        if os.path.exists(self.met):        # the point at which the last one was killed
            self.release()
        with open(self.log, "w") as log:
            self.p = self.box.spawn([TEST_BUILD, *self.args(*args)], log, log,
                                    env=dict(os.environ, CKPT_FAULT=fault, CKPT_FAULT_MET=self.met))
        self.p.returncode = 0

    def until(self, cond, what):
        self.box.wait(lambda: cond() or self.p.pid in self.box.status, f"{what}: {read(self.log)[-1500:]}", timeout=60)
        check(self.p.pid not in self.box.status, f"{what}, and ckpt ended: {read(self.log)[-1500:]}")

    def held(self):
        """A fold has begun and waits; checkpoints are made."""
        self.until(lambda: os.path.exists(self.met), "a fold begins")
        before = self.newest()
        self.until(lambda: self.newest() >= before + 5, "checkpoints while a fold is under way")

    def release(self):
        os.unlink(self.met)

    def newest(self):
        made = complete(self.dir)
        return made[-1] if made else 0

    def end(self):
        os.kill(self.p.pid, signal.SIGTERM)
        return self.ended()

    def ended(self, by=0):
        status = self.box.wait_pid(self.p.pid, f"end of ckpt: {read(self.log)[-1500:]}")
        check(status == by, f"wait status {status:#x}: {read(self.log)[-1500:]}")
        return read(self.log)

    def more(self, *args):
        """It goes on, with nothing in its way."""
        res = self.box.run_ckpt(*self.args(*args), timeout=60)
        check(res.code == 0, f"it goes on: {res}")
        check(not litter(self.dir), f"litter: {litter(self.dir)}")
        return res

    def whole(self, what, amid=False):
        """What a user may restore from. @amid a checkpoint, the newest may not have its name yet."""
        latest, newest = os.readlink(f"{self.dir}/latest"), self.newest()
        check(latest in {f"{n:06d}" for n in ({newest, newest - 1} if amid else {newest})}, f"{what}: {latest}, {newest}")
        for name in [*(f"{n:06d}" for n in complete(self.dir)[-KEEP:]), *bases(self.dir), "latest"]:
            res = self.box.run_ckpt("verify", "-D", f"{self.dir}/{name}")
            check(res.code == 0, f"{what}: {name}: {res}")

    def restored(self):
        """The program ends; whatever is kept brings it back, and it finds everything as it should be."""
        self.target.finish()
        self.box.status.pop(self.target.pid, None)
        self.box.wait(lambda: not os.path.exists(f"/proc/{self.target.pid}"), "end of the program")
        for name in [*bases(self.dir), *(f"{n:06d}" for n in complete(self.dir)[-KEEP:])]:
            self.target.holds(f"{self.dir}/{name}")
            self.box.status.pop(self.target.pid, None)


def begin(box, prog, name, *args):
    target = box.start(prog, *args, subdir=name).wait_ready()
    return Series(box, target, os.path.join(box.dir, f"series-{name}"))


def goes_on(box, name, *args):
    s = begin(box, MUTATE, name)
    s.start("every.merge:hold@1", *args)
    s.held()
    check(not bases(s.dir), f"it waits: {bases(s.dir)}")
    s.release()
    s.until(lambda: any(n.startswith("base-") for n in chain(f"{s.dir}/latest")), "the newest leans on what was folded")
    out = s.end()
    check("not folded" not in out and "full checkpoint" not in out, out)
    check(not litter(s.dir), f"litter: {litter(s.dir)}")
    s.whole("after a fold")
    s.restored()


def grown(s, first=0, *args):
    """As many checkpoints, but one, as a chain has that is folded; each holds about what the first does."""
    for i in range(first, AT):
        heavy(s, i)
        s.more("--count", 1, *args)


def retention(box):
    """A base is an ancestor as any other, until its chain is folded as well and nobody needs it."""
    s = begin(box, FLAT, "kept", "16")
    grown(s)
    check(len(chain(f"{s.dir}/latest")) == AT - 1, f"not yet: {chain(s.dir + '/latest')}")
    heavy(s, AT)
    s.more("--count", 1)
    check(not chain(f"{s.dir}/latest") and not bases(s.dir), f"folded in its own place: {os.listdir(s.dir)}")
    grown(s, 1)
    heavy(s, AT)
    s.start("every.merge:hold@1")
    s.held()
    s.release()
    base = f"base-{2 * AT + 1:06d}"
    s.until(lambda: base in chain(f"{s.dir}/latest"), "the newest leans on what was folded")
    s.end()
    for i in range(1, AT):
        check(bases(s.dir) == [base] and base in chain(f"{s.dir}/latest"), f"{base} is needed: {os.listdir(s.dir)}")
        heavy(s, i)
        s.more("--count", 1)
    heavy(s, AT)
    s.more("--count", 1)
    check(not chain(f"{s.dir}/latest"), f"folded again: {chain(s.dir + '/latest')}")
    s.whole("folded again")
    s.more("--count", KEEP)
    check(len(os.listdir(s.dir)) == KEEP + 2, f"those that are kept, the one that was folded, the link: {os.listdir(s.dir)}")
    s.whole("a base is gone")
    box.end_tree(s.target.pid)


def ends(box, name, *args):
    """With a signal a fold is given up; the next run makes up for it."""
    s = begin(box, FLAT, name, "16")
    grown(s, 0, *args)
    heavy(s, AT)
    s.start("every.merge:hold@1", *args)
    s.held()
    newest = s.newest()
    os.kill(s.p.pid, signal.SIGTERM)
    s.release()
    out = s.ended()
    check("not folded" not in out and s.newest() >= newest, out)
    check(not bases(s.dir) and not litter(s.dir), f"nothing is left of it: {os.listdir(s.dir)}")
    s.whole("a fold was given up")
    s.more("--count", 1, *args)
    check(not chain(f"{s.dir}/latest"), f"folded: {chain(s.dir + '/latest')}")
    s.whole("the next run")
    box.end_tree(s.target.pid)


def killed(box):
    s = begin(box, MUTATE, "killed")
    # The first may come in the middle of a checkpoint; behind the last one the keeper knows another than the newest.
    for point, full in ("merge.pages", None), ("every.fold", False), ("every.folded", True):
        s.start(f"every.merge:hold@1,{point}:kill")
        s.held()
        s.release()
        s.ended(signal.SIGKILL)
        s.whole(f"killed at {point}", amid=point == "merge.pages")
        res = s.more("--count", KEEP)
        check(full is None or ("full checkpoint" in res.err) == full, f"after {point}: {res}")
        s.whole(f"after {point}")
    s.restored()


def damaged(box):
    """A page that is not what it was is named, and comes into no other checkpoint."""
    s = begin(box, FLAT, "damaged", "16")
    grown(s)
    with open(f"{s.dir}/000001/pages", "r+b") as f:
        for at in range(8, os.fstat(f.fileno()).st_size, 4096):
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))
    heavy(s, AT)
    res = s.more("--count", 1)
    check("not folded: the checkpoint in " in res.err and "/000001 is damaged: pages, bytes 0 to 262143" in res.err, f"{res}")
    check(not bases(s.dir) and "000001" in chain(f"{s.dir}/latest"), f"{os.listdir(s.dir)}")
    res = box.run_ckpt("verify", "-D", f"{s.dir}/latest")
    check(res.code == 3 and "000001" in res.err, f"{res}")
    box.end_tree(s.target.pid)


def poke(s, page, n=1):
    with open(f"/proc/{s.target.pid}/mem", "r+b", buffering=0) as f:
        for i in range(page, page + n):
            f.seek(FLAT_AT + i * 4096)
            f.write(b"changed.")


def heavy(s, page):
    """One page that no other increment has, and many that all of them have."""
    poke(s, page)
    poke(s, 2000, 400)


def disk_full(box):
    disk = os.path.join(box.dir, "disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    s = begin(box, FLAT, "flat", "16")
    s.dir, ballast = os.path.join(disk, "series"), os.path.join(disk, "ballast")

    # Increments of a page each: they count, they do not weigh.
    for i in range(AT_MOST):
        poke(s, i)
        s.more("--count", 1)
    check(len(chain(f"{s.dir}/latest")) == AT_MOST - 1, f"a chain: {sorted(chain(s.dir + '/latest'))}")

    def fill(leave):
        """Until so much is free, whatever the series does meanwhile."""
        try:
            with open(ballast, "ab", buffering=0) as f:
                while shutil.disk_usage(disk).free > leave:
                    f.write(bytes(4096))
        except OSError:
            pass

    # A small increment fits, and the fold of a chain of 64 does not.
    fill(2 << 20)
    poke(s, AT_MOST)
    res = s.more("--count", 1)
    check("not folded" in res.err and "No space left" in res.err, f"{res}")
    check(not bases(s.dir) and len(chain(f"{s.dir}/latest")) > 0, f"{os.listdir(s.dir)}")
    s.whole("no room for a fold")
    # What a fold has taken is wanted for a checkpoint.
    os.unlink(ballast)
    s.start("merge.pages:hold@1")
    s.held()
    s.until(lambda: fill(0) or "is not folded: the disk is full" in read(s.log), "no room for a checkpoint")
    # The next is a full one, of what the fold had taken and a little more.
    os.truncate(ballast, os.stat(ballast).st_size - (2 << 20))
    s.release()
    before = s.newest()
    s.until(lambda: s.newest() > before, "it goes on")
    os.unlink(ballast)
    s.end()
    check(not litter(s.dir), f"{litter(s.dir)}")
    s.whole("room was made")
    s.more("--count", 1)
    s.whole("with room")
    box.end_tree(s.target.pid)
    subprocess.run(["umount", "-l", disk], check=True)


def body(box):
    goes_on(box, "on")
    goes_on(box, "packed", "--compress", "lz4")
    retention(box)
    ends(box, "ends")
    ends(box, "ends-packed", "--compress", "zstd")
    killed(box)
    damaged(box)
    disk_full(box)


main(body)
