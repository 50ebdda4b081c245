#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240 needs=tool:redis-server,tool:redis-cli
"""What the README's tour and the manual's examples tell people to type, typed: every line does what it says."""
import os
import re
import shlex
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../faults")]
from _walk import private_world  # noqa: E402
from node import Node  # noqa: E402
from sandbox import BUILD, ROOT, check, main, pids, read  # noqa: E402

PID, STORE = 4711, "/var/lib/ckpt"
PROGRAM = os.path.join(BUILD, "tests/kind/task_simple")
# What else is needed before the examples of a page: see body().
ENDED, CHAIN = {"restore", "check", "show"}, {"merge", "diff"}
PEER = "10.9.0.2 peer.example\n"


def next_pid(box, pid):
    box.reap()
    box.status.clear()      # of the last that had these numbers
    with open("/proc/sys/kernel/ns_last_pid", "w") as f:
        f.write(str(pid - 1))


def peer(box, name):
    """Another node, at the other end of a cable; it shares the files."""
    node = Node(box, name, net=True)
    os.makedirs(os.path.join(box.dir, "run-source"), 0o700, exist_ok=True)
    link = ["ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(node.init)]
    for argv in (link, ["ip", "address", "add", "10.9.0.1/24", "dev", f"to-{name}"], ["ip", "link", "set", f"to-{name}", "up"],
                 node.enter(["ip", "address", "add", "10.9.0.2/24", "dev", "eth0"]),
                 node.enter(["ip", "link", "set", "eth0", "up"]), node.enter(["ip", "link", "set", "lo", "up"])):
        subprocess.run(argv, check=True)
    return node


class Shell:
    """Where the lines are typed: a home with build/, a PATH with ckpt and with what stands for sudo and scp."""

    def __init__(self, box):
        self.box, self.home = box, os.path.join(box.dir, "home")
        tools = os.path.join(self.home, "bin")
        os.makedirs(tools)
        os.symlink(BUILD, os.path.join(self.home, "build"))
        os.symlink(box.ckpt, os.path.join(tools, "ckpt"))
        for name, text in (("sudo", 'exec "$@"'), ("scp", 'exec cp "$1" "${2#*:}"')):
            path = os.path.join(tools, name)
            with open(path, "w") as f:
                f.write(f"#!/bin/sh\n{text}\n")
            os.chmod(path, 0o755)
        self.env = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}", HOME=self.home)
        self.node = None
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib"], check=True)
        hosts = os.path.join(box.dir, "hosts")
        with open(hosts, "w") as f:
            f.write("127.0.0.1 localhost\n" + PEER)
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)

    def type(self, line, fails=""):
        """A line; @fails: the error that it is said to end with."""
        what, where = line, "source"
        m = re.match(r"(source|peer)[$#]\s+", line)
        if m:
            where, line = m.group(1), line[m.end():]
        line = line.partition("  # ")[0].rstrip()
        if where == "peer":
            words = shlex.split(line.removeprefix("sudo "))
            check(words[:2] == ["ckpt", "receive"], f"this test knows no other line of a peer: {what}")
            self.node.receive(*[os.path.join(STORE, w) if w == "peer.pem" else w for w in words[2:]])
            return
        if line.endswith("&"):
            next_pid(self.box, PID)
            p = self.box.spawn(shlex.split(line[:-1]), subprocess.DEVNULL, subprocess.DEVNULL, cwd="/")
            p.returncode = 0
            check(p.pid == PID, f"{what}: it is process {p.pid}")
            self.box.wait(lambda: subprocess.run(["redis-cli", "-p", "7777", "ping"], capture_output=True).stdout == b"PONG\n",
                          f"{what}: it answers", 60)
            return
        env = dict(self.env, CKPT_RUN_DIR=os.path.join(self.box.dir, "run-source")) if "migrate" in line else self.env
        res = self.box.run(["bash", "-c", line], env=env, cwd=self.home, name="typed")
        if fails:
            check(res.code and fails in res.err, f"{what}: {fails} expected: {res}")
        else:
            check(res.code == 0, f"{what}: {res}")
        if "--kill" in line:
            self.box.wait(lambda: not os.path.exists(f"/proc/{PID}"), f"{what}: it is ended")
        return res


def start(box, name, pid=PID):
    next_pid(box, pid)
    target = box.start(PROGRAM, subdir=name).wait_ready()
    check(target.pid == pid, f"the program is process {target.pid}")
    return target


def examples(page):
    """The blocks of a page's EXAMPLES, as lines."""
    text = read(os.path.join(ROOT, "docs/man", page)).replace("\\-", "-")
    part = re.search(r"^\.SH EXAMPLES\n(.*?)(?=^\.SH )", text, re.M | re.S)
    return [l for block in re.findall(r"^\.nf\n\.RS 4\n(.*?)\n\.RE\n", part.group(1), re.M | re.S)
            for l in block.splitlines()] if part else []


def clear(box, shell):
    """Nothing of one page is there for the next."""
    for p in pids():
        if read(f"/proc/{p}/comm").strip() == os.path.basename(PROGRAM):
            box.run_ckpt("track", "stop", "-t", p)
            box.end_tree(p)
    if shell.node:
        shell.node.down()
        shell.node = None
    subprocess.run(["rm", "-rf", STORE], check=True)
    os.mkdir(STORE, 0o700)


def page(box, shell, name):
    command = re.fullmatch(r"ckpt-(\w+)\.8", name).group(1)
    if read(os.path.join(ROOT, "docs/man", name)).startswith(".so "):
        return
    lines = examples(name)
    check(lines, f"{name} has examples")
    target = start(box, command) if command not in ENDED - {"check"} else None
    if command in ENDED:
        # Of a program that has ended; the other one must not be in its way.
        other = start(box, command + "-ended", PID + 1000 if target else PID)
        box.dump(other, "--kill", image=f"{STORE}/web")
    if command in CHAIN:
        box.dump(target, "--track", image=f"{STORE}/1")
        box.dump(target, "--parent", f"{STORE}/1", image=f"{STORE}/2")
    if command == "migrate":
        shell.node = peer(box, command)
    for line in lines:
        shell.type(line)
    if command == "migrate":
        shell.node.finish(target)
    clear(box, shell)


def tour(box, shell):
    """The README's tour: "$ line", and what follows it."""
    text = read(os.path.join(ROOT, "README.md"))
    text = text[text.index("## A minute's tour"):text.index("## Commands")]
    lines = [l[4:] for l in text.splitlines() if l.startswith("    ")]
    os.rmdir(STORE)
    seen = 0
    for i, line in enumerate(lines):
        after = lines[i + 1] if i + 1 < len(lines) else ""
        m = re.match(r"\$ (.*)|((?:source|peer)\$ .*)", line)
        if not m:
            continue
        seen += 1
        typed = m.group(1) or m.group(2)
        if typed.startswith("peer$"):
            shell.node = peer(box, "tour")
            shell.type("scp keys/peer.pem peer.example:" + STORE)
        res = shell.type(typed, "E-PID-TAKEN" if after.startswith("ckpt: E-PID-TAKEN") else "")
        if "redis-cli" in typed:
            check(after.strip('"') == res.out.strip(), f"{typed}: {after} expected: {res}")
        if "verify" in typed:
            check("is whole" in res.out, f"{typed}: {res}")
    check(seen >= 15, f"only {seen} lines were found in the tour")
    check(shell.node.outer(PID), "Redis is at the peer")
    shell.node.down()


def body(box):
    private_world()
    shell = Shell(box)
    os.mkdir(STORE, 0o700)
    for name in sorted(os.listdir(os.path.join(ROOT, "docs/man"))):
        if name.startswith("ckpt-") and name.endswith(".8"):
            page(box, shell, name)
    tour(box, shell)


main(body)
