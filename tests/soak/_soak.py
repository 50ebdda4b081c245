# SPDX-License-Identifier: GPL-2.0-only
"""What the soak tests share: how long they go on, aiming at the inside of a command, and looking for leaks.

They are short in make check; make soak sets the parameters of a long one:
  SOAK_KILLS        random kills of ckpt, its keeper and its peer (kills.py)
  SOAK_SECONDS      how long Redis is checkpointed every 100 ms, in all (redis.py)
  SOAK_MIGRATIONS   how often it moves meanwhile (redis.py)
  SOAK_MIB          how much it holds (redis.py)
  SOAK_IMAGES       changed images that are given to a restore (tests/fuzz/images.py)
  SOAK_SEED         of the random choices
  SOAK_SLACK        MiB by which a process may grow beyond what it usually may: a sanitizer keeps what was freed
"""
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../faults")]
from sandbox import check, read  # noqa: E402


PATIENCE = 60       # seconds for anything that must happen, however long the whole goes on


def knob(name, default):
    return int(os.environ.get(f"SOAK_{name}") or default)


class Aim:
    """Picks instants inside of something whose length is learnt on the way."""

    def __init__(self, rng, seconds):
        self.rng, self.span, self.hits, self.shots = rng, seconds, 0, 0

    def delay(self):
        return self.rng.uniform(0, self.span)

    def learn(self, hit):
        self.shots += 1
        self.hits += hit
        self.span *= 1.03 if hit else 0.95


def rss_kib(pid):
    fields = read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * 4 if fields else 0


def fds(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def links(pid):
    try:
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


class Growth:
    """Memory and descriptors of a process that lives as long as the test."""

    def __init__(self, name, pid, slack_kib):
        self.name, self.pid, self.slack = name, pid, slack_kib + (knob("SLACK", 0) << 10)
        self.rss, self.fds = rss_kib(pid), fds(pid)
        check(self.rss, f"{name} (pid {pid}) is there")

    def look(self, when):
        # What it opens or takes for a moment it gives back.
        end = time.monotonic() + 20
        while time.monotonic() < end:
            now, rss = fds(self.pid), rss_kib(self.pid)
            if now <= self.fds and rss <= self.rss + self.slack:
                break
            time.sleep(0.002)
        check(rss <= self.rss + self.slack, f"{when}: {self.name} has {rss} KiB, it began with {self.rss}")
        check(now <= self.fds, f"{when}: {self.name} has {now} descriptors, it began with {self.fds}: {sorted(links(self.pid))}")
        return f"{self.name} {rss} KiB {now} fds"


def children(pid):
    return [int(c) for t in os.listdir(f"/proc/{pid}/task")
            for c in read(f"/proc/{pid}/task/{t}/children").split()] if os.path.isdir(f"/proc/{pid}") else []
