# SPDX-License-Identifier: GPL-2.0-only
"""What the benchmarks share: a world of their own, workloads, commands that are metered, numbers."""
import json
import math
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build/bench")
STAGE = "/run/ckpt-bench"       # on the tmpfs of our own mount namespace
CKPT = os.environ.get("CKPT", os.path.join(ROOT, "build/ckpt"))
CRIU = os.path.join(ROOT, "build/criu/criu")
RESULTS = os.path.join(ROOT, "bench/results")


def die(text):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


def enter_namespaces():
    """Run again as pid 1 of a pid namespace with a tmpfs /run: pids are free, nothing is left."""
    if os.environ.get("BENCH_INSIDE") != "1":
        os.environ["BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc",
                              "--propagation", "private", sys.executable, "-B", *sys.argv])
    os.closerange(3, 1 << 16)       # what a shell left open is from another mount namespace
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%", "bench", "/run"], check=True)
    os.mkdir(STAGE)


def build(*names):
    """The programs of bench/work that a benchmark uses."""
    os.makedirs(BUILD, exist_ok=True)
    for name in names:
        source = os.path.join(ROOT, "bench/work", name + ".c")
        libs = ["-lssl", "-lcrypto"] if name == "stream" else ["-lpthread"]
        subprocess.run(["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", os.path.join(BUILD, name), source, *libs],
                       check=True)


def need_criu():
    if not os.access(CRIU, os.X_OK):
        subprocess.run([os.path.join(ROOT, "scripts/get-criu")], check=True)


def need_ckpt():
    if os.geteuid() != 0:
        die("needs root")
    if not os.access(CKPT, os.X_OK):
        die(f"{CKPT} is not there: make all")


def run(argv, timeout=300):
    """Run a command: (seconds, peak KiB, output). Its output is shown when it fails."""
    log = os.path.join(STAGE, "output")
    out = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open("/dev/null", os.O_RDONLY)
    meter, figures = os.path.join(BUILD, "meter"), os.path.join(STAGE, "metered")
    pid = os.posix_spawn(meter, [meter, figures, *argv], os.environ,
                         file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1),
                                       (os.POSIX_SPAWN_DUP2, out, 2)])
    signal.alarm(timeout)
    _, failed, _ = os.wait4(pid, 0)
    signal.alarm(0)
    os.close(out)
    os.close(null)
    ns = kib = status = 0
    if not failed:
        with open(figures) as f:
            ns, kib, status = map(int, f.read().split())
        os.unlink(figures)
    with open(log, errors="replace") as f:
        text = f.read()
    if failed or status:
        die(f"{' '.join(argv)}: {failed or status:#x}\n{text[-3000:]}")
    return ns / 1e9, kib, text


def objects(text):
    """What ckpt printed with --json, one after the other."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        obj, end = decoder.raw_decode(text, at)
        yield obj
        at = text.find("{", end)


def stats(text):
    """The numbers of a dump with --json."""
    return next(o["stats"] for o in objects(text) if "stats" in o)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


class Series:
    """ckpt dump --every, from its first checkpoint on."""

    def __init__(self, pid, every, *more):
        self.pid, self.image, self.log = pid, os.path.join(STAGE, "series"), os.path.join(STAGE, "every")
        with open(self.log, "w") as f:
            self.ckpt = subprocess.Popen([CKPT, "dump", "-t", str(pid), "-D", self.image, "--every", every, "--json", "-q", *more],
                                         stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        end = time.monotonic() + 120
        while not os.path.exists(os.path.join(self.image, "latest")):    # the full one comes first
            if self.ckpt.poll() is not None or time.monotonic() > end:
                with open(self.log) as f:
                    die(f"ckpt dump --every: {self.ckpt.poll()} {f.read()}")
            time.sleep(0.005)

    def end(self):
        """The numbers of each increment."""
        self.ckpt.send_signal(signal.SIGINT)
        self.ckpt.wait()
        with open(self.log) as f:
            made = [o["stats"] for o in objects(f.read()) if "stats" in o][1:]
        subprocess.run([CKPT, "track", "stop", "-t", str(self.pid)], capture_output=True, check=False)
        shutil.rmtree(self.image)
        return made


def busy_ticks():
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def settle(seconds=5):
    """Wait until the machine is idle, or for so long at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = busy_ticks()
        time.sleep(0.2)
        busy, all_of_it = (b - a for a, b in zip(before, busy_ticks()))
        if busy <= 0.1 * all_of_it:
            return


def limit(*args):
    """Seconds of one measurement of bench/work/limit.c."""
    out = subprocess.run([os.path.join(BUILD, "limit"), *map(str, args)], capture_output=True, check=True)
    return int(out.stdout) / 1e9


class Ballast:
    """Memory that is backed by the host now and is held; free() gives it to whoever needs some next."""

    def __init__(self, mib):
        self.proc = subprocess.Popen([os.path.join(BUILD, "limit"), "hold", str(mib)], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)
        if self.proc.stdout.readline() != b"held\n":
            die(f"no {mib} MiB for a ballast")

    def free(self):
        self.proc.communicate()
        if self.proc.returncode:
            die(f"the ballast ended: {self.proc.returncode}")


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != 1]


def kill_all():
    """Everything in our namespace but ourselves; then all of it is reaped."""
    if pids():
        os.kill(-1, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


class Workload:
    """A program of bench/work that runs: its first argument is where it reports to."""

    def __init__(self, program, *args):
        self.program = program
        self.report = os.path.join(STAGE, "report")
        argv = [os.path.join(BUILD, program), self.report, *map(str, args)]
        if os.path.exists(self.report):
            os.unlink(self.report)
        null = os.open("/dev/null", os.O_RDWR)
        self.pid = os.posix_spawn(argv[0], argv, {}, setsid=True,
                                  file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)])
        os.close(null)
        self.answer("starts")

    def answer(self, what):
        """Wait for the next report; the longest gap in seconds."""
        end = time.monotonic() + 120
        while not os.path.exists(self.report):
            if time.monotonic() > end:
                die(f"the workload {self.program} does not answer: {what}")
            time.sleep(0.002)
        with open(self.report) as f:
            gap, verdict = f.read().split()
        os.unlink(self.report)
        if verdict != "right":
            die(f"the workload {self.program} found its data changed: {what}")
        return int(gap) / 1e9

    def ask(self, what):
        os.kill(self.pid, signal.SIGUSR1)
        return self.answer(what)

    def forget(self):
        """Gaps so far are not those of what comes next: another program was dumped meanwhile, or it was not heard."""
        os.kill(self.pid, signal.SIGUSR2)
        self.answer("before a dump")


def image_bytes(path):
    return sum(e.stat().st_blocks * 512 for e in os.scandir(path))


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, math.ceil(q * len(values)) - 1)]


def show(seconds):
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def version(argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True).stdout.split("\n")[0].strip()
    except OSError:
        return "?"


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((l.split(":", 1)[1].strip() for l in f if l.startswith("model name")), "?")
    with open("/proc/meminfo") as f:
        mem = int(f.readline().split()[1]) >> 20
    return {"cpu": model, "cpus": os.cpu_count(), "memory_gib": mem, "kernel": platform.release()}


def median(rows, key):
    return statistics.median(float(r[key]) for r in rows)


def header(rounds, criu=False):
    """What every result says of itself."""
    versions = {"ckpt": version([CKPT, "--version"]) or "ckpt"}
    if criu:
        versions["criu"] = "CRIU " + version([CRIU, "--version"]).removeprefix("Version: ")
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(), "rounds": rounds,
            "load": round(os.getloadavg()[0], 1), "versions": versions}


def about(data):
    m, v = data["machine"], data["versions"]
    tools = "; ".join(v.values())
    # A machine with other work: read the ratios, not the times.
    busy = f"; **begun at a load of {data['load']:g}**" if data["load"] > 1 else ""
    return (f"{m['cpus']} × {m['cpu']}, {m['memory_gib']} GiB, Linux {m['kernel']}; {tools}; {data['date']}; "
            f"{data['rounds']} rounds{busy}.")


def save(out, name, data):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, name + ".json"), "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
