#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=90
"""ckpt, its keeper and its peer are killed at random instants of dumps, increments, restores, periodic dumps and
migrations. After each kill exactly one copy of the program lives, whole and right, and nothing is left behind."""
import os
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from _soak import PATIENCE, Aim, children, knob, rss_kib  # noqa: E402
import busy  # noqa: E402
from _invariants import World, no_half_image  # noqa: E402
from _walk import private_world  # noqa: E402
from node import Node  # noqa: E402
from onecopy import OneCopy  # noqa: E402
from sandbox import Failure, alive, check, main, pids, read, tree  # noqa: E402
from series import keepers  # noqa: E402

KILLS = knob("KILLS", 20)


class Soak:
    """The program, its peer, and what happened to them."""

    def strays(self):
        """Processes of ckpt that belong to no command: only the peer's listener may be there."""
        self.box.reap()
        mine = {self.peer.proc.pid, *children(self.peer.proc.pid)}
        return [f"{p} {read(f'/proc/{p}/comm').strip()}" for p in pids()
                if read(f"/proc/{p}/comm").startswith("ckpt") and p not in mine]

    def __init__(self, box):
        self.box, self.rng = box, random.Random(knob("SEED", 7447))
        self.node = Node(box, "b")
        self.sock = os.path.join(box.dir, "sock")
        self.peer = self.node.receive("--unix", self.sock)
        self.prog = OneCopy(box, self.node)
        self.aim = {}
        self.base = {}
        self.n, self.what = 0, ""

    def image(self, name):
        return os.path.join(self.box.dir, name)

    def clear(self):
        for name in ("image", "a", "b", "every"):
            shutil.rmtree(self.image(name), ignore_errors=True)

    def killed(self, scene, argv, victim, seconds, env=None):
        """Start ckpt and kill victim(its pid) after a while; its wait status, and whether there was one to kill."""
        aim = self.aim.setdefault(scene, Aim(self.rng, seconds))
        with open(os.devnull, "w") as null:
            p = self.box.spawn([self.box.ckpt, *map(str, argv)], null, null, env=env)
        p.returncode = 0
        self.box.ended_by(p.pid, time.monotonic() + aim.delay())
        hit = False
        for v in victim(p.pid):
            if v != p.pid or p.pid not in self.box.status:
                try:
                    os.kill(v, signal.SIGKILL)
                    hit = True
                except ProcessLookupError:
                    pass
        status = self.box.wait_pid(p.pid, f"{self.what}: end of ckpt", timeout=60)
        aim.learn(hit and status != 0)
        return status

    # --- scenes: each ends with the program alive, here or (migrate) there -------------------------

    def dump(self, target):
        self.killed("dump", ["dump", "-t", target.pid, "-D", self.image("a")], lambda p: [p], 0.05)
        no_half_image(self.box, self.image("a"), self.what)

    def increment(self, target):
        """Of a session; ckpt or the keeper dies."""
        res = self.box.run_ckpt("dump", "-t", target.pid, "-D", self.image("a"), "--track")
        check(res.code == 0, f"{self.what}: {res}")
        who = self.rng.choice(("ckpt", "keeper", "both"))
        self.what += f" ({who})"

        def victim(p):
            return ([p] if who != "keeper" else []) + (keepers() if who != "ckpt" else [])
        self.killed("increment", ["dump", "-t", target.pid, "-D", self.image("b"), "--parent", self.image("a")], victim, 0.05)
        no_half_image(self.box, self.image("b"), self.what)
        whole = os.path.exists(self.image("b") + "/inventory")
        if not whole:
            shutil.rmtree(self.image("b"), ignore_errors=True)
        last = self.image("b" if whole else "a")
        res = self.box.run_ckpt("dump", "-t", target.pid, "-D", self.image("image"), "--parent", last)
        check(res.code == 0, f"{self.what}: the next checkpoint: {res}")
        res = self.box.run_ckpt("verify", "-D", self.image("image"))
        check(res.code == 0, f"{self.what}: {res}")
        self.box.run_ckpt("track", "stop", "-t", target.pid)

    def every(self, target):
        who = self.rng.choice(("ckpt", "keeper"))
        self.what += f" ({who})"
        args = ["dump", "-t", target.pid, "-D", self.image("every"), "--every", "1ms", "--keep", "2"]
        # A keeper that dies costs a full checkpoint, not the series.
        self.killed("every", args + ["--count", "12"], lambda p: [p] if who == "ckpt" else keepers(), 0.5)
        res = self.box.run_ckpt(*args, "--count", "2")
        check(res.code == 0, f"{self.what}: goes on: {res}")
        res = self.box.run_ckpt("verify", "-D", self.image("every/latest"))
        check(res.code == 0, f"{self.what}: {res}")
        self.box.run_ckpt("track", "stop", "-t", target.pid)

    def restore(self, target):
        members = tree(target.pid)
        self.box.dump(target, "--kill", image=self.image("a"))
        for p in members:
            self.box.status.pop(p, None)
        for turn in range(10):
            last = turn == 9
            status = 0
            if last:
                res = self.box.run_ckpt("restore", "-D", self.image("a"), "--detach")
                if "E-FILE-CHANGED" in res.err and "/progress" in res.err:
                    # Killed while it let go of the threads: some ran for a moment (README, limits).
                    self.box.log(f"{self.what}: it ran for a moment")
                    self.prog.target = None
                    return "there"
                check(res.code == 0, f"{self.what}: {res}")
            else:
                status = self.killed("restore", ["restore", "-D", self.image("a"), "--detach"], lambda p: [p], 0.05)
            # Whole or not there at all: what is being built or traced dies with its maker.
            before, since = busy.progress(target), time.monotonic()
            self.box.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in members) or
                          all(a > b for a, b in zip(busy.progress(target), before)), f"{self.what}: all of it or nothing")
            self.box.log(f"{self.what}: decided after {time.monotonic() - since:.3f} s")
            if os.path.exists(f"/proc/{target.pid}"):
                break
            check(status != 0, f"{self.what}: it was restored and is not there")
        return None

    def migrate(self, target):
        who = self.rng.choice(("source", "peer", "both"))
        self.what += f" ({who})"
        if self.peer.ended() is not None:
            self.peer = self.node.receive("--unix", self.sock)

        ended = []

        def victim(p):
            server = children(self.peer.proc.pid)
            serving = [c for s in server for c in children(s)]
            # Now and then the listener as well.
            if who != "source" and self.rng.random() < 0.2:
                ended.extend(server)
            there = serving + ended
            return ([p] if who != "peer" else []) + (there if who != "source" else [])
        status = self.killed("migrate", ["migrate", "-t", target.pid, "--to", f"unix:{self.sock}"], victim, 0.12,
                             env=self.node.env())
        if ended:
            self.box.wait(lambda: self.peer.ended() is not None, f"{self.what}: end of the peer")
        if self.peer.ended() is not None:
            self.peer = self.node.receive("--unix", self.sock)
        if [f for f in os.listdir(self.node.run_dir) if f.startswith("source-")]:
            res = self.box.run_ckpt("migrate", "--resolve", "all", env=self.node.env())
            check(res.code == 0, f"{self.what}: {res}")
        where = self.prog.verify(self.what)
        check(status != 0 or where == "there", f"{self.what}: ckpt says it moved, it did not")
        self.prog.leftovers(self.what)
        return where

    def turn(self):
        target = self.prog.start()
        if target not in self.base:
            self.base = {target: rss_kib(target.pid)}
        scene = self.rng.choice((self.dump, self.increment, self.every, self.restore, self.migrate, self.migrate))
        self.n += 1
        self.what = f"kill {self.n} in {scene.__name__}"
        self.box.log(self.what)
        if scene(target) == "there":       # it is not here any more
            return
        check(alive(target.pid), f"{self.what}: the program is gone{target.why()}")
        busy.lives(self.box, target, self.what)
        check(not os.path.exists(target.file("failures")), f"{self.what}: {target.why()}")
        # Two arenas may be left by a dump that died between threads.
        check(len(busy.foreign_maps(target)) <= 2, f"{self.what}: {busy.foreign_maps(target)} are left")
        now = rss_kib(target.pid)
        check(now < self.base[target] + (24 << 10), f"{self.what}: the program grew from {self.base[target]} to {now} KiB")


def body(box):
    private_world()
    box.timeout = PATIENCE
    soak = Soak(box)
    shots = lambda: sum(a.hits for a in soak.aim.values())  # noqa: E731
    target = soak.prog.start()
    check(box.run_ckpt("track", "start", "-t", target.pid).code == 0, "start")      # makes /run/ckpt
    check(box.run_ckpt("track", "stop", "-t", target.pid).code == 0, "stop")
    os.makedirs("/run/ckpt", exist_ok=True)
    while shots() < KILLS and soak.n < 4 * KILLS:
        target = soak.prog.start()
        world = World(box, ours=(target.dir, soak.node.run_dir))
        soak.turn()
        soak.clear()
        world.clean(soak.what, allowed=lambda kind, name: kind == "processes" or
                    name in (soak.sock, f"@{soak.sock}") or name.startswith(target.dir))
        left = [[]]

        def none_stray():
            left[0] = soak.strays()
            return not left[0]
        try:
            box.wait(none_stray, "")
        except Failure:
            check(False, f"{soak.what}: processes are left: {left[0]}")
        if soak.n % 100 == 0:
            box.log("; ".join(f"{k}: {a.hits} of {a.shots} within {a.span * 1e3:.0f} ms" for k, a in soak.aim.items()))
    box.log("; ".join(f"{k}: {a.hits} of {a.shots} within {a.span * 1e3:.0f} ms" for k, a in soak.aim.items()))
    check(shots() >= KILLS, f"only {shots()} of {soak.n} kills met ckpt")
    soak.prog.end()
    soak.peer.stop()
    box.wait(lambda: len(pids()) <= 6, f"processes are left: {[read(f'/proc/{p}/comm') for p in pids()]}")


main(body)
