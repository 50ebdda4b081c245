# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""dump --every of a program that becomes one that cannot be saved: the series ends and names it, the program goes on, and
what was made before can be restored. It is looked at while it stands still from the second checkpoint on."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import check, main, read  # noqa: E402
from series import complete  # noqa: E402

PROGRAM = """
import ctypes, os, signal, socket, threading
held = []
def packet(*_):
    held.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
def away(*_):
    while held:
        held.pop().close()
def uts(*_):
    assert ctypes.CDLL(None).unshare(0x04000000) == 0
signal.signal(signal.SIGUSR1, packet)
signal.signal(signal.SIGUSR2, away)
signal.signal(signal.SIGHUP, uts)
threading.Thread(target=threading.Event().wait, daemon=True).start()
n = 0
beat = os.open("beat", os.O_RDWR | os.O_CREAT)
while True:
    n += 1
    os.pwrite(beat, b"%09d" % n, 0)     # a file that has another name at the restore would not be found
    signal.sigtimedwait([], 0.005)
"""


def body(box):
    directory = os.path.join(box.dir, "run")
    os.mkdir(directory)
    with open(os.path.join(box.dir, "program.log"), "w") as log:
        target = box.spawn(["/usr/bin/python3", "-c", PROGRAM], log, log, cwd=directory)
    series = os.path.join(box.dir, "series")

    def beat():
        try:
            return int(read(os.path.join(directory, "beat")) or 0)
        except FileNotFoundError:
            return 0

    def goes_on():
        now = beat()
        box.wait(lambda: beat() > now + 3, "the program goes on")

    def run(sig, error, text):
        """A series in which @sig makes the program one that cannot be saved."""
        before = complete(series)[-1] if os.path.isdir(series) and complete(series) else 0
        path = os.path.join(box.dir, "every.log")
        with open(path, "w") as log:
            p = box.spawn([box.ckpt, "dump", "-t", str(target.pid), "-D", series, "--every", "5ms", "--keep", "3"], log, log)
        box.wait(lambda: os.path.isdir(series) and (complete(series) or [0])[-1] >= before + 4, f"checkpoints: {read(path)}")
        os.kill(target.pid, sig)
        status = box.wait_pid(p.pid, f"end of the series: {read(path)}")
        p.returncode = 0
        out = read(path)
        check(os.WIFEXITED(status) and os.WEXITSTATUS(status) in (1, 3), f"wait status {status:#x}: {out}")
        check(error in out and text in out, f"{error} and '{text}' expected: {out}")
        goes_on()
        for n in complete(series)[-2:]:
            res = box.run_ckpt("verify", "-D", f"{series}/{n:06d}")
            check(res.code == 0, f"{res}")

    box.wait(beat, "the program runs")
    run(signal.SIGUSR1, "E-UNSUPPORTED", "packet")
    os.kill(target.pid, signal.SIGUSR2)
    goes_on()
    run(signal.SIGHUP, "E-UNSUPPORTED", "uts namespace")
    target.returncode = 0
    last = complete(series)[-1]
    box.end_tree(target.pid)
    stopped = beat()
    box.restore(image=f"{series}/{last:06d}")
    box.wait(lambda: beat() > stopped or 0 < beat() < stopped, "the restored program runs")
    os.kill(target.pid, signal.SIGKILL)


main(body)
