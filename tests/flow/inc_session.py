# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""Tracking sessions: wrong parents are refused, an interrupted dump or a killed keeper makes the next checkpoint a
full one that says so, nothing of it harms the program, and every checkpoint can be restored."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main, read, tree  # noqa: E402

FULL = "this is a full checkpoint"


def body(box):
    target = box.start(os.path.join(BUILD, "tests/flow/mutate")).wait_ready()
    plain, faulty = box.ckpt, os.path.join(os.path.dirname(box.ckpt), "ckpt-test")
    count = 0

    def image(name):
        return os.path.join(box.dir, name)

    def status():
        res = box.run_ckpt("track", "status", "-t", target.pid, "--json")
        return json.loads(res.out) if res.code == 0 else None

    def keeper():
        return status()["keeper"]

    def increment(parent, full=False):
        nonlocal count
        count += 1
        name = f"inc{count}"
        res = box.dump(target, "--parent", image(parent), "--json", image=image(name))
        check((FULL in res.err) == full, f"full is {not full}, unexpectedly: {res}")
        stats = json.loads(res.out)["stats"]
        check(bool(int(stats.get("pages_parent", 0))) != full, f"pages in the parent: {res.out}")
        return name

    def refused(parent, code, text):
        res = box.run_ckpt("dump", "-t", target.pid, "-D", image("no"), "--parent", parent)
        check(res.code == 3 and code in res.err and text in res.err, f"{code} with '{text}' expected: {res}")
        check(not os.path.exists(image("no")), "a refused dump leaves nothing")

    check(status() is None, "no session before the first")
    res = box.run_ckpt("track", "start", "-t", target.pid)
    check(res.code == 0, f"{res}")
    check(status()["armed"] is False, "nothing is armed yet")
    check(box.run_ckpt("track", "start", "-t", target.pid).code == 3, "a second session is refused")
    # Attached only: a checkpoint with a parent cannot be relative to it.
    box.dump(target, image=image("untracked"))
    full = increment("untracked", full=True)
    one = increment(full)
    two = increment(one)

    # Parents that are not the last one; a plain dump in between changes nothing.
    refused(image(full), "E-PARENT", "is tracked since checkpoint")
    refused(image("untracked"), "E-PARENT", "is tracked since checkpoint")
    refused(image("nowhere"), "E-PARENT", "cannot be the parent")
    box.dump(target, image=image("plain"))
    three = increment(two)
    check(status()["parent_path"] == image(three), "the session knows its parent's path")

    # A dump that fails or dies anywhere after it may have armed something.
    last = three
    for point in ("dump.pages", "dump.thawed", "image.rename", "track.commit"):
        for how in ("fail", "kill"):
            box.ckpt = faulty
            res = box.run_ckpt("dump", "-t", target.pid, "-D", image("torn"), "--parent", image(last),
                               env=dict(os.environ, CKPT_FAULT=f"{point}:{how}"))
            box.ckpt = plain
            committed = point == "track.commit"
            want = -9 if how == "kill" else 0 if committed else 1
            check(res.code == want, f"{point}:{how}: {res}")
            check(status()["broken"], f"the session is broken after {point}:{how}")
            if committed:   # the image is whole, only nobody knows
                check(box.run_ckpt("verify", "-D", image("torn")).code == 0, "verify")
            box.run(["rm", "-rf", image("torn")])
            last = increment(last, full=True)
            last = increment(last)
    # Before that, nothing is lost.
    box.ckpt = faulty
    res = box.run_ckpt("dump", "-t", target.pid, "-D", os.path.join(box.dir, "no", "such"), "--parent", image(last))
    box.ckpt = plain
    check(res.code == 3, f"{res}")
    last = increment(last)

    # The keeper dies.
    os.kill(keeper(), signal.SIGKILL)
    box.wait(lambda: status() is None, "end of the keeper")
    last = increment(last, full=True)
    last = increment(last)
    check(box.run_ckpt("track", "stop", "-t", target.pid).code == 0, "stop")
    flags = [l for l in read(f"/proc/{target.pid}/smaps").splitlines() if l.startswith("VmFlags")]
    check(flags and not any(" uw" in l for l in flags), "a trace of tracking is left")
    last = increment(last, full=True)
    last = increment(last)
    check(box.run_ckpt("check", "-t", target.pid).code == 0, "check accepts a tracked program")

    # Folded, the chain is one checkpoint from which the next increment goes on.
    res = box.run_ckpt("merge", "-D", image(one), "-o", image("inc_folded_one"), "-t", target.pid)
    check(res.code == 3 and "E-PARENT" in res.err, f"another checkpoint is armed: {res}")
    res = box.run_ckpt("merge", "-D", image(last), "-o", image("inc_folded"), "-t", target.pid)
    check(res.code == 0, f"{res}")
    refused(image(last), "E-PARENT", "is tracked since checkpoint")
    shown = [box.run_ckpt("show", "-D", image(name)).out for name in (last, "inc_folded")]
    held = [re.search(r"threads?, (\S+ \S+) of memory", out)[1] for out in shown]
    check(held[0] == held[1], f"what a checkpoint holds is what it held: {shown}")
    check(re.search(r"in \d+ other checkpoints?\)", shown[0]) and "an increment of " in shown[0], f"it leans on the full one: {shown[0]}")
    check("other checkpoint" not in shown[1] and "an increment" not in shown[1], f"it leans on none: {shown[1]}")
    res = box.run_ckpt("diff", image(last), image("inc_folded"))
    check(res.code == 0 and "no difference" in res.out, f"a folded checkpoint is the same one: {res}")
    res = box.run_ckpt("diff", "--json", image(one), image(last))
    diff = json.loads(res.out)
    check(res.code == 0 and diff["pages"]["changed"] and diff["pages"]["same"], f"{res}")
    last = increment("inc_folded")
    for name in os.listdir(box.dir):
        if name.startswith("inc") and name not in (last, "inc_folded"):
            box.run(["rm", "-rf", image(name)])

    # The last one ends the program, and the keeper with it.
    pid = keeper()
    final = image("final")
    members = tree(target.pid)
    box.dump(target, "--kill", "--parent", image(last), image=final)
    box.wait(lambda: not os.path.exists(f"/proc/{pid}"), "end of the keeper")
    for p in members:
        box.status.pop(p, None)
    check(box.run_ckpt("verify", "-D", final).code == 0, "verify")
    # The folded one is at the root of all that is left.
    last = "inc_folded"
    # An ancestor that is not there, or is another, is named.
    os.rename(image(last), image("moved"))
    res = box.run_ckpt("restore", "-D", final, "--detach")
    check(res.code == 3 and "E-PARENT" in res.err and last in res.err, f"{res}")
    box.run(["cp", "-r", image("plain"), image(last)])
    res = box.run_ckpt("restore", "-D", final, "--detach")
    check(res.code == 3 and "E-PARENT" in res.err and "another checkpoint" in res.err, f"{res}")
    box.run(["rm", "-rf", image(last)])
    os.rename(image("moved"), image(last))
    # The whole family moves.
    os.mkdir(image("elsewhere"))
    for name in os.listdir(box.dir):
        if name.startswith("inc") or name == "final":
            os.rename(image(name), os.path.join(box.dir, "elsewhere", name))
    box.restore(image=os.path.join(box.dir, "elsewhere", "final"))
    target.finish()


main(body)
