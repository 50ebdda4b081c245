# SPDX-License-Identifier: GPL-2.0-only
"""The root of the tree is itself a daemon whose session has no leader any more; numbers that are
taken, and groups that belong to others, are named."""
import os
import signal

from sandbox import BUILD, Target, check, main, read

OTHERS = """
import os, signal, sys
lead = os.fork()
if not lead:
    os.setpgid(0, 0)
    signal.pause()
root = os.fork()
if not root:
    child = os.fork()
    if not child:
        while os.getpgid(0) != lead:
            try:
                os.setpgid(0, lead)
            except OSError:
                pass
        open(sys.argv[1] + ".new", "w").write(f"{lead} {os.getppid()} {os.getpid()}")
        os.rename(sys.argv[1] + ".new", sys.argv[1])
    signal.pause()
signal.pause()
"""


def start_daemon(box, name):
    """A program whose parent was a session leader and has ended."""
    directory = os.path.join(box.dir, name)
    os.mkdir(directory)
    prog = os.path.join(BUILD, "tests/kind/task_thread")
    box.run(["sh", "-c", f"exec >{directory}/log 2>&1; '{prog}' {directory} & echo $! $$ >{directory}/ids"])
    pid, sid = map(int, read(directory + "/ids").split())
    target = Target(box, pid, directory, name).wait_ready()
    check((os.getsid(pid), os.getpgid(pid)) == (sid, sid) and not os.path.exists(f"/proc/{sid}"),
          "a session without its leader")
    return target, sid


def body(box):
    target, sid = start_daemon(box, "one")
    for n in range(3):
        image = box.image + str(n)
        box.dump(target, "--kill", image=image)
        box.restore(image=image)
        check((os.getsid(target.pid), os.getpgid(target.pid)) == (sid, sid),
              f"session and group {sid}: {os.getsid(target.pid)} {os.getpgid(target.pid)}")
        check(not os.path.exists(f"/proc/{sid}"), "the stand-in is gone")
    # The number of the session is taken while somebody is in it.
    box.dump(target, image=box.image)
    os.kill(target.pid, signal.SIGSTOP)
    res = box.run_ckpt("restore", "-D", box.image, "--detach")
    check(res.code == 3 and "E-PID-TAKEN" in res.err, str(res))
    res = box.run_ckpt("check", "-D", box.image)
    check(res.code != 0 and f"{sid}" in res.out + res.err, f"the session's number is named: {res}")
    os.kill(target.pid, signal.SIGCONT)
    target.finish()

    # A process group that is led from outside.
    said = os.path.join(box.dir, "said")
    outer = box.spawn(["/usr/bin/python3", "-c", OTHERS, said], None, None)
    outer.returncode = 0
    box.wait(lambda: os.path.exists(said), "the group is there")
    lead, root, child = map(int, read(said).split())
    box.refused(root, "E-UNSUPPORTED", f"process group {lead}, whose leader is outside",
                image=box.image + "-none")
    for pid in (child, root, lead, outer.pid):
        os.kill(pid, signal.SIGKILL)
    box.wait_pid(outer.pid, "end of the others")


main(body)
