# SPDX-License-Identifier: GPL-2.0-only
"""In a guest with the module: increments by ckpt and by CRIU with --track-mem, in turns, of two programs that do the same,
and increments by ckpt of the same few pages of a small program, of a large one, and of one four times as large, and migrations of such.
usage: inguest.py MIB ROUNDS

The programs run with a real-time priority: the guest has one processor, and the longest gap of their heartbeat is to be
the pause, not the time that a saver needed while they were allowed to run."""
import json
import os
import shutil
import subprocess
import sys
import time

STAGE = "/run/bench"
CKPT, CRIU = "/ckpt/build/ckpt", "/ckpt/build/criu/criu"
SHARE, FIXED = 1, 18    # per cent; pages
MOVES = 3


def run(*argv):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if done.returncode:
        sys.exit(f"{argv}: exit {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


class Workload:
    def __init__(self, name, mib, pages):
        self.report = f"{STAGE}/report.{name}"
        null = os.open("/dev/null", os.O_RDWR)
        self.pid = os.posix_spawn("/ckpt/build/bench/dirty", ["dirty", self.report, str(mib), str(pages)], {}, setsid=True,
                                  scheduler=(os.SCHED_FIFO, os.sched_param(1)),
                                  file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)])
        os.close(null)
        self.answer()

    def answer(self):
        end = time.monotonic() + 3000       # of the guest's own seconds
        while not os.path.exists(self.report):
            if time.monotonic() > end:
                sys.exit(f"{self.report}: no answer")
            time.sleep(0.005)
        with open(self.report) as f:
            gap, verdict = f.read().split()
        os.unlink(self.report)
        if verdict != "right":
            sys.exit(f"{self.report}: its data changed")
        return int(gap) / 1e9

    def ask(self):
        os.kill(self.pid, 10)
        return self.answer()

    def forget(self):
        """Gaps so far: the guest has one processor, and the other tool had it."""
        os.kill(self.pid, 12)
        self.answer()

    def end(self):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def varints(data):
    """The numbers of a flat protobuf message, by field."""
    at, out = 0, {}

    def varint(at):
        value = shift = 0
        while True:
            value |= (data[at] & 0x7f) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 0x80:
                return value, at
    while at < len(data):
        key, at = varint(at)
        value, at = varint(at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        out[key >> 3] = value
    return out


def criu_told(image):
    """Seconds that CRIU says the program was frozen: frozen_time of its stats-dump."""
    with open(f"{image}/stats-dump", "rb") as f:
        data = f.read()
    size = int.from_bytes(data[8:12], "little")
    return varints(varints(data[12:12 + size])[1])[2] / 1e6


class Ckpt:
    def __init__(self, work, name):
        self.work, self.name, self.n, self.last = work, name, 0, None
        work.ask()

    def dump(self):
        image = f"{STAGE}/{self.name}{self.n}"
        self.work.forget()
        text = run(CKPT, "dump", "-t", self.work.pid, "-D", image, "--json", "-q",
                   *(("--parent", self.last) if self.last else ("--track", "--tracker", "kmod")))
        self.last, self.n = image, self.n + 1
        told = json.loads(text[text.index("{"):])["stats"]
        parts = {k: int(v) for k, v in told.items() if k.endswith("_us") and int(v)}
        return {"pause": self.work.ask(), "told": int(told["pause_us"]) / 1e6, "pages": int(told["pages_written"]), "parts": parts}


class Criu:
    def __init__(self, work):
        self.work, self.n = work, 0
        work.ask()

    def dump(self):
        image = f"{STAGE}/criu{self.n}"
        os.mkdir(image, 0o700)
        self.work.forget()
        run(CRIU, "dump", "-t", self.work.pid, "-D", image, "-R", "-v1", "--track-mem",
            *(("--prev-images-dir", f"../criu{self.n - 1}") if self.n else ()))
        self.n += 1
        return {"pause": self.work.ask(), "told": criu_told(image)}


def number_inside(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(l.split()[-1]) for l in f if l.startswith("NSpid:")), 0)
    except OSError:
        return 0


class Peer:
    """ckpt receive in a pid namespace of its own."""

    def __init__(self):
        self.at, out = f"{STAGE}/peer", f"{STAGE}/receive"
        os.mkdir(f"{STAGE}/there", 0o700)
        fd = os.open(out, os.O_RDWR | os.O_CREAT, 0o600)
        argv = ["/usr/bin/unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "/bin/sh", "-c",
                '"$0" "$@" & wait; wait', CKPT, "receive", "--unix", self.at]
        self.proc = os.posix_spawn(argv[0], argv, os.environ | {"CKPT_RUN_DIR": f"{STAGE}/there"},
                                   file_actions=[(os.POSIX_SPAWN_DUP2, fd, 1), (os.POSIX_SPAWN_DUP2, fd, 2)])
        os.close(fd)
        end = time.monotonic() + 300
        while not os.path.exists(self.at):
            if time.monotonic() > end:
                sys.exit("ckpt receive does not listen")
            time.sleep(0.005)

    def end(self):
        os.kill(self.proc, 9)
        os.waitpid(self.proc, 0)
        shutil.rmtree(f"{STAGE}/there")
        for name in (self.at, f"{STAGE}/receive"):
            os.unlink(name)


def move(mib):
    """An idle program of @mib goes to a peer on the same machine, tracked by the module."""
    peer, work = Peer(), Workload("moves", mib, 0)
    work.forget()
    text = run(CKPT, "migrate", "-t", work.pid, "--to", f"unix:{peer.at}", "--tracker", "kmod", "--json")
    told = json.loads([l for l in text.splitlines() if l.startswith('{"')][-1])
    os.waitpid(work.pid, 0)
    number = work.pid
    work.pid = next(int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != number and number_inside(p) == number)
    row = {"pause": work.ask(), "told": told["downtime_us"] / 1e6, "final": told["final_pages"],
           "parts": {k: told[k] for k in ("freeze_us", "collect_us", "build_us")}}
    peer.end()
    return row


def clear():
    """The images, which lie in memory."""
    for name in os.listdir(STAGE):
        shutil.rmtree(f"{STAGE}/{name}", ignore_errors=True)


def main():
    mib, rounds = map(int, sys.argv[1:])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%", "bench", "/run"], check=True)
    os.mkdir(STAGE)
    pages = round((mib << 8) * SHARE / 100)
    tools = {"ckpt": Ckpt(Workload("ckpt", mib, pages), "i"), "criu": Criu(Workload("criu", mib, pages))}
    for tool in tools.values():         # the one was not heard while the other filled its memory
        tool.work.ask()
    full = {name: tool.dump() for name, tool in tools.items()}
    data = {"mib": mib, "share": SHARE, "full": full, "rounds": [], "fixed": []}
    for turn in range(rounds):
        row = {}
        for name in list(tools) if turn % 2 == 0 else list(tools)[::-1]:
            row[name] = tools[name].dump()
        data["rounds"].append(row)
        print(row, file=sys.stderr)
    for tool in tools.values():
        tool.work.end()
    clear()
    for size in (64, mib, 4 * mib):
        tool = Ckpt(Workload("fixed", size, FIXED), f"f{size}.")
        tool.dump()
        data["fixed"].append({"mib": size, "pages": FIXED, "increments": [tool.dump() for _ in range(rounds)]})
        tool.work.end()
        clear()
    data["moves"] = [{"mib": size, "rounds": [move(size) for _ in range(MOVES)]} for size in (64, mib, 4 * mib)]
    print(json.dumps(data))


main()
