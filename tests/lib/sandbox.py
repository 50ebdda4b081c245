# SPDX-License-Identifier: GPL-2.0-only
"""What a test does with programs and ckpt, inside its own pid and mount namespace.

Used by tests/lib/driver.py (pid 1 of the namespace, runs kind tests) and by the scripts in
tests/flow and tests/apps. A test has one private directory; the protocol with a test program
(files ready, skip, failures, result; SIGTERM means go) is the one of tests/lib/t.h.

    box = Sandbox()                       # directory from the environment
    target = box.start(os.path.join(BUILD, "tests/kind/task_simple"))
    target.wait_ready()
    box.dump(target, "--kill")            # fails the test when ckpt fails
    box.restore()
    target.finish()                       # go, wait, check the program's own verdict
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Where what is tested was built: another place for builds with sanitizers.
BUILD = os.environ.get("T_BUILD") or os.path.join(ROOT, "build")


class Failure(Exception):
    """The test failed; the text says why."""


class Skip(Exception):
    """The test cannot run here; the text names what is missing."""


def check(cond, why):
    if not cond:
        raise Failure(why)


def read(path, default=""):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return default


def state(pid, tid=None):
    """The letter of /proc/PID/stat; "" when there is no such process."""
    fields = read(f"/proc/{pid}/task/{tid or pid}/stat").rpartition(")")[2].split()
    return fields[0] if fields else ""


def threads(pid):
    try:
        return sorted(int(t) for t in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def alive(pid):
    """True while a process exists and has a thread that has not ended."""
    return any(state(pid, t) not in ("Z", "X", "") for t in threads(pid))


def pids():
    """Every process of this pid namespace."""
    return sorted(int(p) for p in os.listdir("/proc") if p.isdigit())


def tree(pid):
    """A process and its descendants."""
    parent = {}
    for p in pids():
        fields = read(f"/proc/{p}/stat").rpartition(")")[2].split()
        if fields:
            parent[p] = int(fields[1])
    out = [pid]
    for p in out:
        out.extend(c for c, pp in parent.items() if pp == p)
    return out


def takes(pids):
    """MiB that these processes take, each page counted once, in memory or swapped out."""
    kib = 0
    for pid in pids:
        fields = dict(line.split(":", 1) for line in read(f"/proc/{pid}/smaps_rollup").splitlines())
        kib += sum(int(fields[name].split()[0]) for name in ("Pss", "SwapPss"))
    return kib / 1024


def describe(pid):
    """One process for the log: state, where each thread waits."""
    lines = [f"pid {pid}: {read(f'/proc/{pid}/comm').strip()}"]
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return lines[0] + " (gone)"
    for tid in tids[:8]:
        base = f"/proc/{pid}/task/{tid}"
        stat = read(base + "/stat").rpartition(")")[2].split()
        tracer = [l for l in read(base + "/status").splitlines() if l.startswith("TracerPid")]
        stack = " < ".join(l.split()[-1] for l in read(base + "/stack").splitlines()[:5])
        lines.append(f"  {tid} {stat[0] if stat else '?'} {' '.join(tracer)} "
                     f"syscall {read(base + '/syscall').strip()[:40]} {stack}")
    return "\n".join(lines)


class Result:
    """What a command did."""

    def __init__(self, argv, code, out, err, seconds):
        self.argv, self.code, self.out, self.err, self.seconds = argv, code, out, err, seconds

    def __str__(self):
        text = f"{' '.join(self.argv)}: exit {self.code} after {self.seconds:.2f} s"
        for name, part in (("stdout", self.out), ("stderr", self.err)):
            if part.strip():
                text += f"\n  {name}: " + part.strip().replace("\n", "\n          ")
        return text


class Sandbox:
    def __init__(self, directory=None):
        # Restored programs are orphans of ckpt: they come to us, not to pid 1.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.dir = directory or os.environ["T_DIR"]
        self.ckpt = os.environ.get("CKPT") or os.path.join(BUILD, "ckpt")
        self.image = os.path.join(self.dir, "image")
        self.last = ""          # what the last ckpt of a fault walk did
        self.status = {}        # pid -> wait status of everything reaped
        self.started = time.monotonic()
        self.timeout = float(os.environ.get("T_TIMEOUT", "30"))
        # Blocked, so that waiting for it with a timeout misses nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})

    # --- processes ---------------------------------------------------------------------

    def log(self, text):
        print(f"[{time.monotonic() - self.started:7.3f}] {text}", flush=True)

    def reap(self):
        """Collect every child that ended, own or adopted."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.status[pid] = status

    def wait(self, cond, what, timeout=None, step=0.005):
        """Wait until cond() is true; reaps meanwhile."""
        end = time.monotonic() + (timeout or self.timeout)
        while True:
            self.reap()
            value = cond()
            if value:
                return value
            if time.monotonic() > end:
                self.log("timeout; what is there:\n" + "\n".join(describe(p) for p in pids()[1:]))
                raise Failure(f"not in time: {what}")
            signal.sigtimedwait({signal.SIGCHLD}, step)

    def spawn(self, argv, stdout, stderr, uid=None, env=None, cwd=None, session=True, stdin=None):
        def child():
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            if session:
                os.setsid()
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
        return subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout,
                                stderr=stderr, env=env, cwd=cwd, preexec_fn=child)

    def wait_pid(self, pid, what, timeout=None):
        """Wait status of a child, own or adopted."""
        self.wait(lambda: pid in self.status, what, timeout)
        return self.status.pop(pid)

    def ended_by(self, pid, moment):
        """Has child @pid ended? Known at the latest at @moment of the monotonic clock."""
        while pid not in self.status and time.monotonic() < moment:
            signal.sigtimedwait({signal.SIGCHLD}, max(0, moment - time.monotonic()))
            self.reap()
        return pid in self.status

    def end_tree(self, root):
        """Kill @root with all below it, and wait until their numbers are free."""
        members = tree(root)
        for p in members:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:      # it was ending already
                pass
        self.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in members), f"end of the tree of {root}")
        for p in members:
            self.status.pop(p, None)

    def run(self, argv, timeout=None, env=None, session=True, cwd=None, name="run"):
        """Run a command to its end; never raises for its exit status."""
        begin = time.monotonic()
        outs = [os.path.join(self.dir, f".{name}.{s}") for s in ("out", "err")]
        with open(outs[0], "w") as out, open(outs[1], "w") as err:
            p = self.spawn(argv, out, err, env=env, session=session, cwd=cwd)
        try:
            status = self.wait_pid(p.pid, f"end of {' '.join(argv)}", timeout)
        except Failure:
            self.log("its output: " + read(outs[0])[-2000:] + read(outs[1])[-2000:])
            os.kill(p.pid, signal.SIGKILL)
            self.wait_pid(p.pid, "end of a killed command")
            p.returncode = -9
            raise
        p.returncode = os.waitstatus_to_exitcode(status)
        res = Result(argv, p.returncode, read(outs[0]), read(outs[1]), time.monotonic() - begin)
        self.log(str(res))
        return res

    def start(self, prog, *args, uid=None, env=None, cwd=None, subdir=None):
        """Start a test program in its own session, with its log as stdout and stderr."""
        directory = self.dir
        if subdir:
            directory = os.path.join(self.dir, subdir)
            os.mkdir(directory)
            os.chmod(directory, 0o777)
        if uid is not None:     # the build tree may lie where this user cannot look
            copy = os.path.join(directory, os.path.basename(prog))
            shutil.copy(prog, copy)
            os.chmod(copy, 0o755)
            prog = copy
        path = os.path.join(directory, "log")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.fchmod(fd, 0o666)
        try:
            p = self.spawn([os.path.abspath(prog), directory, *args], fd, fd, uid=uid, cwd=cwd,
                           env=env or {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/"})
        finally:
            os.close(fd)
        self.log(f"started {prog} as pid {p.pid}")
        p.returncode = 0        # reaped by Sandbox.reap(), never by subprocess
        return Target(self, p.pid, directory, os.path.basename(prog))

    # --- ckpt --------------------------------------------------------------------------

    def run_ckpt(self, *args, timeout=None, env=None):
        check(os.access(self.ckpt, os.X_OK), f"{self.ckpt} is not there")
        return self.run([self.ckpt, *map(str, args)], timeout=timeout, env=env, name="ckpt")

    def dump(self, target, *args, image=None):
        """Dump; with --kill also waits until the tree is gone."""
        members = tree(target.pid)
        res = self.run_ckpt("dump", "-t", target.pid, "-D", image or self.image, *args)
        check(res.code == 0, f"{res}")
        if "--kill" in args:
            self.wait(lambda: not any(os.path.exists(f"/proc/{p}") for p in members),
                      "end of the dumped processes")
        else:
            check(alive(target.pid), f"pid {target.pid} is gone after a dump")
        self.status.pop(target.pid, None)
        return res

    def restore(self, *args, image=None):
        res = self.run_ckpt("restore", "-D", image or self.image, "--detach", *args)
        check(res.code == 0, f"{res}")
        return res

    def refused(self, target, error, text="", image=None):
        """A dump that must be refused before anything is frozen, leaving nothing behind."""
        image = image or self.image
        res = self.run_ckpt("dump", "-t", target if isinstance(target, int) else target.pid,
                            "-D", image)
        check(res.code == 3, f"exit status 3 expected: {res}")
        check(error in res.err, f"{error} expected: {res}")
        check(text in res.err, f"'{text}' expected: {res}")
        check(not os.path.exists(image) or not os.listdir(image), f"litter in {image}")
        return res


class Target:
    """A test program, by pid; outlives its own restore."""

    def __init__(self, box, pid, directory, name):
        self.box, self.pid, self.dir, self.name = box, pid, directory, name

    def file(self, name):
        return os.path.join(self.dir, name)

    def why(self):
        """What the program said about itself, for a failure's text."""
        said = read(self.file("failures")).strip() or read(self.file("log")).strip()[-1500:]
        return f": {said}" if said else ""

    def wait_ready(self):
        self.box.wait(lambda: os.path.exists(self.file("ready")) or self.pid in self.box.status,
                      f"{self.name} is ready{self.why()}")
        if os.path.exists(self.file("skip")):
            raise Skip(read(self.file("skip")))
        if self.pid in self.box.status and not os.path.exists(self.file("ready")):
            raise Failure(f"{self.name} ended before it was ready, wait status "
                          f"{self.box.status[self.pid]:#x}{self.why()}")
        return self

    def finish(self):
        """Go; wait for the end; the program's own verdict decides."""
        self.box.reap()
        check(alive(self.pid), f"{self.name} (pid {self.pid}) is gone{self.why()}")
        # An earlier process of this number, killed by a dump or by a restore that failed.
        self.box.status.pop(self.pid, None)
        os.kill(self.pid, signal.SIGTERM)
        status = self.box.wait_pid(self.pid, f"end of {self.name}{self.why()}")
        if status != 0:
            raise Failure(f"{self.name} ended with wait status {status:#x}{self.why()}")
        check(read(self.file("result")) == "pass\n", f"{self.name} gave no verdict{self.why()}")
        check(not os.path.exists(self.file("failures")), f"failures{self.why()}")

    def holds(self, image, timeout=None):
        """The checkpoint is whole, and the program that comes back from it finds everything as it should be."""
        os.unlink(self.file("result"))
        check(self.box.run_ckpt("verify", "-D", image, timeout=timeout).code == 0, f"verify of {image}")
        self.box.restore(image=image)
        try:
            self.finish()
        except Exception as e:
            raise type(e)(f"{image}: {e}") from e


def main(body):
    """Run a flow or apps script: body(box); the outcome goes to the runner."""
    # What ckpt restores and detaches becomes a child of this script.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)     # PR_SET_CHILD_SUBREAPER
    box = Sandbox()
    outcome, text = 0, ""
    try:
        body(box)
    except Skip as e:
        outcome, text = 77, f"SKIP {e}"
    except Failure as e:
        outcome, text = 1, f"FAIL {e}"
    if text:
        print(text, flush=True)
        with open(os.path.join(box.dir, "outcome"), "w") as f:
            f.write(text)
    sys.exit(outcome)
