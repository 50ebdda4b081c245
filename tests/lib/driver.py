# SPDX-License-Identifier: GPL-2.0-only
"""Pid 1 of a test's namespace: runs one kind test or one script, and reaps orphans.

    driver.py kind PROGRAM MODE OPTIONS-AS-JSON
    driver.py script FILE

The outcome goes to the file "outcome" of the test's directory ($T_DIR): PASS, SKIP why or
FAIL why. When this process ends, the kernel kills whatever is left in the namespace.
"""
import json
import os
import pwd
import signal
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sandbox import Failure, Sandbox, Skip, check, describe, pids  # noqa: E402


def run_kind(box, prog, mode, opts):
    uid = pwd.getpwnam(opts["uid"]).pw_uid if "uid" in opts else None
    target = box.start(prog, *opts.get("args", []), uid=uid)
    target.wait_ready()
    dump = opts.get("dump", [])
    restore = opts.get("restore", [])
    if mode == "leave":
        box.dump(target, *dump)
    elif mode == "refuse":
        box.refused(target, opts["refuse"], opts.get("refuse_text", ""))
    elif mode in ("kill", "twice"):
        for i in range(2 if mode == "twice" else 1):
            image = box.image + str(i)
            if i:   # a copy first: what it interrupts, the next one interrupts again
                box.dump(target, *dump, image=box.image + "-copy")
            box.dump(target, "--kill", *dump, image=image)
            box.restore(*restore, image=image)
    else:
        check(mode == "control", f"unknown mode {mode}")
    target.finish()
    # Orphans may still be on their way out.
    box.wait(lambda: pids() == [1] or opts.get("leftovers"),
             "no process is left behind", timeout=5)


def run_script(box, path):
    proc = box.spawn(["/usr/bin/python3", "-B", path], None, None, session=False)
    proc.returncode = 0
    status = box.wait_pid(proc.pid, f"end of {path}")
    code = os.waitstatus_to_exitcode(status)
    try:
        with open(os.path.join(box.dir, "outcome")) as f:
            said = f.read()
    except OSError:
        said = ""
    if code == 77:
        raise Skip(said.removeprefix("SKIP ") or "no reason given")
    if code != 0:
        raise Failure(said.removeprefix("FAIL ") or f"exit status {code}")


def main():
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: sys.exit(1))
    box = Sandbox()
    try:
        if sys.argv[1] == "kind":
            run_kind(box, sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
        else:
            run_script(box, sys.argv[2])
        outcome = "PASS"
    except Skip as e:
        outcome = f"SKIP {e}"
    except Failure as e:
        outcome = f"FAIL {e}"
    except Exception:
        outcome = "FAIL " + traceback.format_exc()
    if outcome.startswith("FAIL"):
        left = "\n".join(describe(p) for p in pids()[1:20])
        if left:
            print("--- left\n" + left, flush=True)
    path = os.path.join(box.dir, "outcome")
    with open(path + ".new", "w") as f:
        f.write(outcome)
    os.rename(path + ".new", path)


main()
