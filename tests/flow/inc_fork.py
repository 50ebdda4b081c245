# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""A process that is born between two increments shares its parent's memory: it is saved once, in every increment that
follows as well, and what comes back from each of them is right and shared."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main, takes, tree  # noqa: E402

MIB = 24


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/mig_heirs"), str(MIB), "hot").wait_ready()
    images = []

    def dump(what, *how):
        image = os.path.join(box.dir, what)
        res = box.dump(target, *(("--parent", images[-1]) if images else ("--track",)), *how, "--json", image=image)
        stats = json.loads(res.out)["stats"]
        box.log(f"{what}: {stats}")
        images.append(image)
        return int(stats["pages_written"]), stats["tracker"]

    def step(n):
        os.kill(target.pid, signal.SIGUSR1)
        box.wait(lambda: os.path.exists(target.file(f"step{n}")), f"step {n}{target.why()}")

    # What eight processes have is saved once.
    full, tracker = dump("full")
    check(full < MIB * 256 * 3, f"{full} pages")
    step(1)
    # What is copied ahead and written again counts twice.
    born, _ = dump("born", "--no-pre")
    if tracker != "none":
        # The one that was born has 5/4 of them. An eighth is written all the time, by eight.
        check(born < MIB * 256 * 5 / 4, f"{born} pages are saved of one that was just born")
    dump("again")
    step(2)
    dump("changed")
    dump("packed", "--compress", "lz4")
    before = takes(tree(target.pid))
    os.kill(target.pid, signal.SIGTERM)
    check(box.wait_pid(target.pid, "end of the original") == 0, f"the program failed{target.why()}")
    for image in images:
        target.holds(image)
    box.restore(image=images[-1])
    after = takes(tree(target.pid))
    box.log(f"MiB: {before}, restored {after}")
    check(after < before * 1.5 + 8, f"they share less memory than they did: {before} MiB, restored {after}")
    os.unlink(target.file("result"))
    target.finish()


main(body)
