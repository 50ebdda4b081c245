# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=7200
"""Many periodic checkpoints of a program that does everything to its memory: some picked at random and the last ones
are restored and verify themselves, and neither ckpt, nor its keeper, nor the series grows. T_LONG says how many (make
check-long), T_TRACKER by which back end."""
import os
import random
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, Skip, check, main, read, tree  # noqa: E402
from series import bound, keepers  # noqa: E402

COUNT = int(os.environ.get("T_LONG", "20"))
KEEP = min(10, COUNT // 4)
SAMPLES = max(2, COUNT // 100)


def used(pid):
    """Descriptors and resident KiB of a process; nothing when it has ended."""
    try:
        fds = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    rss = [int(l.split()[1]) for l in read(f"/proc/{pid}/status").splitlines() if l.startswith("VmRSS")]
    return (fds, rss[0]) if rss else None


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/mutate")).wait_ready()
    series = os.path.join(box.dir, "series")
    rng = random.Random(COUNT)
    tracker = os.environ.get("T_TRACKER")
    log_path = os.path.join(box.dir, "every.log")
    with open(log_path, "w") as log:
        p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", series, "--every", "1ms", "--keep", str(KEEP),
                       "--count", str(COUNT), *(("--tracker", tracker) if tracker else ())], log, log)
    merged, seen = [], []

    def newest():
        try:
            return int(os.readlink(f"{series}/latest"))
        except OSError:
            return 0

    def ended():
        box.reap()
        return p.pid in box.status

    for at in sorted(rng.sample(range(2, COUNT - KEEP), SAMPLES)):
        box.wait(lambda: newest() >= at or ended(), f"checkpoint {at}", timeout=3600)
        # It is kept until as many others were made: time enough, but nobody promises it.
        image = os.path.join(box.dir, f"sample-{at}")
        while not ended():
            res = box.run_ckpt("merge", "-D", f"{series}/{newest():06d}", "-o", image, timeout=120)
            if res.code == 0:
                merged.append(image)
                break
            shutil.rmtree(image, ignore_errors=True)
        keeper = keepers()
        # A series that could not begin leaves no directory.
        made = os.listdir(series) if os.path.isdir(series) else []
        seen.append([used(p.pid), used(keeper[0]) if keeper else None, len(made)])
        box.log(f"at {at}: ckpt, keeper (descriptors, KiB), directories: {seen[-1]}")
    box.wait(ended, "the last checkpoint", timeout=3600)
    p.returncode = 0
    out = read(log_path)
    if tracker and "cannot track writes by" in out:
        raise Skip(f"the tracker {tracker}")
    check(box.status[p.pid] == 0 and out.count("saved process") == COUNT, f"{COUNT} checkpoints: {out[-2000:]}")
    check("full checkpoint" not in out and "not folded" not in out, out[-2000:])

    # Nothing grows, once the first ones have made room.
    for which, what in enumerate(("ckpt", "its keeper")):
        sizes = [s[which] for s in seen[len(seen) // 4:] if s[which]]
        if len(sizes) > 3:
            check(max(f for f, _ in sizes[-3:]) <= max(f for f, _ in sizes[:-3]) + 4, f"descriptors of {what}: {sizes}")
            check(sizes[-1][1] < sizes[0][1] * 1.5 + 4096, f"memory of {what}: {sizes}")
    check(max(s[2] for s in seen) <= bound(KEEP), f"directories: {seen}")

    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the program failed{target.why()}")
    box.wait(lambda: len(tree(target.pid)) == 1, "end of its child")
    last = [f"{series}/{n:06d}" for n in range(COUNT - KEEP + 1, COUNT + 1)]
    for image in merged + last:
        target.holds(image, timeout=120)


main(body)
