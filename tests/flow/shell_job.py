# SPDX-License-Identifier: GPL-2.0-only
"""A job of a shell on one terminal is saved and goes on as a job on another: it reads and writes there, gets its ^C,
and a ^Z stops it together with the ckpt that waits for it. Without a terminal the restore says so."""
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, Sandbox, check, read  # noqa: E402

CKPT = os.path.join(BUILD, "ckpt")
box = Sandbox()
image = os.path.join(box.dir, "image")


class Shell:
    """A session leader on a terminal of its own that runs one foreground job."""

    def __init__(self, argv):
        self.pid, self.master = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.closerange(3, 1024)
            job = os.fork()
            if not job:
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                os.execv(argv[0], argv)
            while True:
                _, status = os.waitpid(job, os.WUNTRACED)
                if os.WIFSTOPPED(status):
                    os.tcsetpgrp(0, os.getpid())
                    os.write(1, b"<stopped>")
                    # "fg"
                    os.read(0, 100)
                    os.tcsetpgrp(0, job)
                    os.kill(-job, signal.SIGCONT)
                else:
                    os.write(1, b"<ended %d>" % status)
                    os._exit(0)

    def expect(self, text, seconds=20):
        got, end = b"", time.monotonic() + seconds
        while text not in got:
            left = end - time.monotonic()
            check(left > 0 and select.select([self.master], [], [], left)[0], f"{text} expected, got {got}")
            got += os.read(self.master, 4096)
        return got

    def type(self, data):
        os.write(self.master, data)

    def job(self):
        return int(read(f"/proc/{self.pid}/task/{self.pid}/children").split()[0])

    def close(self):
        os.close(self.master)
        os.waitpid(self.pid, 0)


one = Shell(["/bin/cat"])
attr = termios.tcgetattr(one.master)
attr[3] &= ~termios.ECHO
termios.tcsetattr(one.master, termios.TCSANOW, attr)
one.type(b"first\n")
one.expect(b"first")
pid = one.job()
res = subprocess.run([CKPT, "dump", "-t", str(pid), "-D", image, "--kill"], capture_output=True, text=True)
check(res.returncode == 0, f"dump: {res.stderr}")
one.expect(b"<ended 9>")
one.close()
box.wait(lambda: not os.path.exists(f"/proc/{pid}"), "end of the first shell")

res = subprocess.run(["setsid", CKPT, "restore", "-D", image], stdin=subprocess.DEVNULL, capture_output=True, text=True)
check(res.returncode == 1 and "terminal" in res.stderr, f"restore without a terminal: {res.returncode} {res.stderr}")

two = Shell([CKPT, "restore", "-q", "-D", image])
box.wait(lambda: os.path.exists(f"/proc/{pid}/comm") and "cat" in read(f"/proc/{pid}/comm"), "the job on its new terminal")
box.wait(lambda: read(f"/proc/{pid}/stat").rpartition(")")[2].split()[5] == str(pid), "the foreground")
# Its settings came along: no echo, so what is typed appears once.
two.type(b"second\n")
got = two.expect(b"second")
check(got.count(b"second") == 1, f"typed once, seen {got}")
two.type(b"\x1a")
two.expect(b"<stopped>")
two.type(b"fg\n")
box.wait(lambda: read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "S", "the job goes on")
two.type(b"third\n")
two.expect(b"third")
two.type(b"\x03")
two.expect(b"<ended %d>" % ((128 + signal.SIGINT) << 8))
two.close()
