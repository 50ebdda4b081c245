# SPDX-License-Identifier: GPL-2.0-only
"""Every figure that was promised is a row of bench/report, with its goal and whether it is reached; so is every workload.
Made from figures that are all the same, for what counts here is the table; then from those that are in the tree."""
import glob
import json
import os
import shutil
import subprocess

from sandbox import ROOT, check, main

HEAD = {"date": "2026-01-01", "machine": {"cpu": "a", "cpus": 2, "memory_gib": 1, "kernel": "k"}, "rounds": 2, "load": 0,
        "versions": {"ckpt": "ckpt", "criu": "CRIU"}}
ROW = {"pause": 1.0, "told": 1.0, "dump": 1.0, "restore": 1.0, "both": 1.0, "dump_kib": 1, "restore_kib": 1, "image_bytes": 1,
       "kib": 1, "pages": 1, "bytes": 1, "criu": 1.0, "first": 1.0, "again": 1.0}
LIMITS = {"memcpy": 1.0, "fault": 1.0, "read": 1.0, "save": 1.0}
MOVED = {"pause": 1.0, "reported": 1.0, "rate": 1e6, "bytes": 1, "source_kib": 1, "peer_kib": 1, "cpu": [1.0, 1.0], "again": [1, 100],
         "parts": {"collect_us": 1, "build_us": 1}}
RATE = {"rate": 1.0, "p99": 1.0, "longest": 1.0, "seconds": 60.0}
MADE = RATE | {"made": 1, "per_second": 1.0, "told": 1.0, "bytes": 1}
# What each issue promises: a piece of the line, and the goal in it.
PROMISED = (
    ("| 1 GiB | pause |", "≥ 2.5"), ("| 1 GiB | dump |", "≥ 1.5"), ("| 1 GiB | restore |", "≥ 2"), ("| tiny | dump + restore |", "≥ 3"),
    ("| 1,000 threads | dump |", "≥ 3"), ("| 1,000 threads | restore |", "≥ 3"), ("| 1,000 processes | dump |", "≥ 3"),
    ("| 1,000 processes | restore |", "≥ 3"), ("| 100 processes | dump |", ""), ("| 64 MiB | restore |", ""), ("| 4 GiB (1 rounds) | restore |", ""),
    ("| 8 GiB | dump |", ""), ("Cost per GiB of 1 GiB, 4 GiB, 8 GiB", "within 1.5 ×"), ("Most memory of ckpt", "≤ 64"), ("| memcpy |", "/proc/PID/mem"),
    ("| 1024 MiB | 0.1 % |", ""), ("memory that three processes share", ""), ("| 4096 MiB | 10 % |", ""), ("in turns with CRIU", "≥ 100"), ("18 pages, whatever the size", "within 1.5 ×"),
    ("of fresh memory costs a program that nobody tracks", "within a round"),
    ("| random | wp-async |", "ns a page"), ("A small Redis", "goal 100"), ("as it comes", "≥ 85"), ("of the throughput (goal", "≥ 85"), ("pgbench", "of the transactions"), ("| their size |", "no growth"),
    ("| memory of ckpt and its keeper |", "no growth"), ("| 1024 MiB | tcp | writing |", "≥ 50"), ("Over tcp, writing: the pause of 4096 MiB", "≤ 1.3"),
    ("by OpenSSL itself, tls:", "MB/s"), ("over loopback, tcp:", "MB/s"), ("with differences", "bytes saved"), ("Shared anonymous memory", ""), ("bytes a page |", "≥ 5"),
    ("CRIU with --track-mem / ours", "≥ 20"), ("of an increment of 18 pages", "≤ 1.5"))


def twice(row):
    return [dict(row), dict(row)]


def write(folder):
    sizes = ("tiny", "64 MiB", "1 GiB", "4 GiB", "8 GiB", "1,000 threads", "100 processes", "1,000 processes")
    goals = json.loads(subprocess.run(["/usr/bin/python3", "-B", "-c", GOALS], capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    work = {n: {"ckpt": twice(ROW), "criu": twice(ROW)} | ({"limits": twice(LIMITS)} if "iB" in n else {}) for n in sizes}
    for tool in ("ckpt", "criu"):
        work["4 GiB"][tool].pop()
    inc = [{"mib": m, "share": s, "pages": 18, "full": ROW, "increments": twice(ROW)} for m in (64, 1024, 4096) for s in (0.1, 1, 10)]
    moved = [{"mib": m, "link": link, "load": "writing", "ckpt": twice(MOVED), "stream": [1e6, 1e6],
              **({"criu": twice(ROW)} if link == "tcp" else {})} for link in ("tcp", "tls") for m in (64, 1024, 4096)]
    fixed = [{"mib": m, "pages": 18, "increments": twice(ROW)} for m in (64, 1024)]
    what = {"criu": {"workloads": work, "goals": goals["criu"]},
            "increments": {"rows": inc, "fixed": [r | {"increments": twice(ROW | {"least": ROW})} for r in inc if r["share"] == 1],
                           "shared": [r for r in inc if r["share"] == 1], "versus": {"mib": 1024, "share": 1, "rounds": twice(ROW)}},
            "tracking": {"mib": 64, "rows": [{"pattern": "random", "trackers": {n: twice(ROW) for n in ("untracked", "wp-async", "kmod")}}],
                         "bystander": twice({"plain": 1.0, "logged": 1.0})},
            "redis": {"keys": 9, "rows": {"none": twice(RATE), "100ms": twice(MADE)},
                      "small": {"keys": 9, "every": "10ms", "rows": {"none": twice(RATE), "10ms": twice(MADE)},
                                "plain": {"none": twice(RATE), "10ms": twice(MADE)}}},
            "postgresql": {"every": "1s", "clients": 4, "scale": 1,
                           "rows": [{"rate": 1.0, "none": 1.0, "told": 1.0, "p90": 1.0, "tasks": 10, "bytes": 1}] * 2},
            "long": {"count": 9, "keep": 5, "seconds": 1.0, "restore": 1.0, "rows": [{"kib": 1, "kept": 1, "mib": 1.0}] * 8},
            "migrate": {"goals": goals["migrate"], "rows": moved, "shared": {"64": twice(MOVED)}, "sparse": {"64M": twice(MOVED), "0": twice(MOVED)}},
            "guest": {"qemu": "q", "kernels": {"6.1": {"release": "r", "rows": [
                {"what": "a figure", "value": 1.0, "goal": 2.0, "sense": "<"},
                {"what": "random writer, granule adaptive: cost / soft-dirty", "value": 1.0, "goal": 1.15, "sense": "<"}]}},
                      "versus": {"mib": 1024, "share": 1, "rounds": [{"ckpt": ROW, "criu": ROW}] * 2, "fixed": fixed}}}
    for name, data in what.items():
        with open(os.path.join(folder, name + ".json"), "w") as f:
            json.dump(HEAD | data, f)


# The goals as the benchmarks themselves have them.
GOALS = """
import importlib.machinery, importlib.util, json, sys
sys.path.insert(0, "bench")
def load(name):
    loader = importlib.machinery.SourceFileLoader("b_" + name, "bench/" + name)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module
print(json.dumps({"criu": [[n, f, least] for (n, f), least in load("run").GOALS.items()], "migrate": load("migrate").GOALS}))
"""


def body(box):
    folder = os.path.join(box.dir, "out")
    os.mkdir(folder)
    write(folder)
    res = box.run([os.path.join(ROOT, "bench/report"), folder])
    check(res.code == 0, f"{res}")
    with open(os.path.join(folder, "results.md")) as f:
        lines = f.read().splitlines()
    for piece, goal in PROMISED:
        check(any(piece in line and goal in line for line in lines), f"no row has {piece!r} with {goal!r}")
    for name in ("criu", "increments", "redis", "migrate"):
        check(os.path.exists(os.path.join(folder, name + ".svg")), f"{name}.svg")
    shutil.rmtree(folder)
    os.mkdir(folder)
    for path in glob.glob(os.path.join(ROOT, "bench/results/*.json")):
        shutil.copy(path, folder)
    res = box.run([os.path.join(ROOT, "bench/report"), folder])
    check(res.code == 0 and os.path.getsize(os.path.join(folder, "results.md")) > 1000, f"{res}")


main(body)
