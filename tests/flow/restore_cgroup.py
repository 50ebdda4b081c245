# SPDX-License-Identifier: GPL-2.0-only
# t: needs=cgroup2
"""restore --cgroup: the group it was in (keep), ckpt's own (none), or any other one; one that is missing is refused."""
import os

from sandbox import Skip, check, main, read


def body(box):
    base = next(line.split()[4] for line in read("/proc/self/mountinfo").splitlines() if " - cgroup2 " in line)
    prefix = os.path.basename(os.path.dirname(box.dir))
    groups = [f"{prefix}-was", f"{prefix}-other"]

    def member(pid):
        return [line[3:] for line in read(f"/proc/{pid}/cgroup").splitlines() if line.startswith("0::")][0]

    try:
        for g in groups:
            os.mkdir(f"{base}/{g}")
        pid = box.spawn(["sleep", "1000"], None, None).pid
        own = member("self")
        with open(f"{base}/{groups[0]}/cgroup.procs", "w") as f:
            f.write(str(pid))
    except OSError as e:
        raise Skip("a writable cgroup2 mount") from e
    was = member(pid)
    res = box.run_ckpt("dump", "-t", pid, "-D", box.image, "--kill")
    check(res.code == 0, f"{res}")
    box.wait_pid(pid, "end of the program")
    res = box.run_ckpt("restore", "-D", box.image, "--detach", "--cgroup", f"/{prefix}-missing")
    check(res.code == 3 and "mkdir" in res.err, f"a missing group is refused: {res}")
    for how, want in (([], was), (["--cgroup", "keep"], was), (["--cgroup", "none"], own),
                      (["--cgroup", was.replace(groups[0], groups[1])], was.replace(groups[0], groups[1])),
                      (["--cgroup", f"{base}/{groups[1]}"], was.replace(groups[0], groups[1]))):
        box.restore(*how)
        check(member(pid) == want, f"{how}: in {member(pid)}, not in {want}")
        os.kill(pid, 9)
        box.wait_pid(pid, "end of the program")
    for g in groups:
        box.wait(lambda g=g: rm(f"{base}/{g}"), "the group is empty")


def rm(path):
    try:
        os.rmdir(path)
        return True
    except OSError:
        return False


main(body)
