#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=60
"""ckpt check --to asks both nodes what would stop a migration, and moves nothing."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main, read, tree  # noqa: E402

HOLD = """
import os, signal, sys
with open('/proc/sys/kernel/ns_last_pid', 'w') as f:
    f.write(str(int(sys.argv[1]) - 1))
if os.fork() == 0:
    print(os.getpid(), flush=True)
signal.pause()
"""


PORTS = """
import signal, socket, sys
two = [int(a) for a in sys.argv[2:]] or [0, 0]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('0.0.0.0', two[0]))
tcp = socket.socket(socket.AF_INET6 if sys.argv[1] == 'dual' else socket.AF_INET, socket.SOCK_STREAM)
if sys.argv[1] == 'dual':
    tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
tcp.bind(('::' if sys.argv[1] == 'dual' else '0.0.0.0', two[1]))
tcp.listen()
print(udp.getsockname()[1], tcp.getsockname()[1], flush=True)
signal.pause()
"""


SHARED = """
import mmap, os, signal, sys
memory, children = mmap.mmap(-1, int(sys.argv[1]) << 20), int(sys.argv[2])
memory.madvise(23)      # MADV_POPULATE_WRITE
for i in range(children):
    if os.fork() == 0:
        memory.madvise(22)      # MADV_POPULATE_READ
        print(i, flush=True)
        signal.pause()
signal.pause()
"""


def shared(box):
    """Memory that processes share is needed at the peer once, however many they are."""
    node = Node(box, "m")
    sock, out = os.path.join(box.dir, "msock"), os.path.join(box.dir, "shared")
    mib = 256
    available = int(read("/proc/meminfo").split("MemAvailable:")[1].split()[0]) >> 10
    children = available * 5 // 4 // mib + 1
    with open(out, "w") as f:
        p = box.spawn(["/usr/bin/python3", "-c", SHARED, str(mib), str(children)], f, f)
    p.returncode = 0
    box.wait(lambda: read(out).count("\n") == children, f"they all have it: {read(out)}")
    total = sum(int(read(f"/proc/{c}/status").split("RssShmem:")[1].split()[0]) >> 10 for c in tree(p.pid))
    check(total > available, f"together they show {total} MiB, {available} are free")
    peer = node.receive("--unix", sock)
    res = box.run_ckpt("check", "-t", p.pid, "--to", f"unix:{sock}", "--json", env=node.env())
    check(not [e for e in json.loads(res.out)["problems"] if e["id"] == "E-NOMEM"], f"it fits: {res}")
    peer.stop()
    box.end_tree(p.pid)
    node.down()


def ports(box):
    """Ports of UDP, and one that listens for both families, are taken there by somebody else."""
    node = Node(box, "n", net=True)
    sock, outs = os.path.join(box.dir, "nsock"), [os.path.join(box.dir, f"ports{i}") for i in range(2)]

    def start(out, *argv, enter=lambda argv: argv):
        with open(out, "w") as f:
            p = box.spawn(enter(["/usr/bin/python3", "-c", PORTS, *argv]), f, f)
        p.returncode = 0
        box.wait(lambda: read(out).endswith("\n"), f"ports are open: {read(out)}")
        check(len(read(out).split()) == 2, read(out))
        return p.pid, read(out).split()
    pid, have = start(outs[0], "dual")
    peer = node.receive("--unix", sock)
    ask = ("check", "-t", pid, "--to", f"unix:{sock}", "--json")
    res = box.run_ckpt(*ask, env=node.env())
    check(not [p for p in json.loads(res.out)["problems"] if p["id"] == "E-ADDRESS"], f"they are free there: {res}")
    start(outs[1], "four", *have, enter=node.enter)
    res = box.run_ckpt(*ask, env=node.env())
    said = sorted(p["message"] for p in json.loads(res.out)["problems"] if p["id"] == "E-ADDRESS" and p["node"] == "peer")
    check(said == [f"the UDP port 0.0.0.0:{have[0]} is taken", f"the port [::]:{have[1]} is taken"], f"both are taken: {res}")
    peer.stop()
    box.end_tree(pid)
    node.down()


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    to = f"unix:{sock}"
    target = box.start(os.path.join(BUILD, "tests/kind/task_simple"), subdir="free")
    target.wait_ready()

    res = box.run_ckpt("check", "-t", target.pid, "--to", to, env=node.env())
    check(res.code == 1 and "E-PEER" in res.err, f"nobody listens: {res}")
    res = box.run_ckpt("check", "--to", to, env=node.env())
    check(res.code == 2, f"--to alone: {res}")

    peer = node.receive("--unix", sock)
    res = box.run_ckpt("check", "-t", target.pid, "--to", to, env=node.env())
    check(res.code == 0 and "Nothing stops" in res.out, f"both are fine: {res}")

    out = os.path.join(box.dir, "held")
    with open(out, "w") as f:
        box.spawn(node.enter(["/usr/bin/python3", "-c", HOLD, str(target.pid)]), f, f).returncode = 0
    box.wait(lambda: read(out).endswith("\n"), "somebody holds the number there")
    check(read(out) == f"{target.pid}\n", read(out))
    res = box.run_ckpt("check", "-t", target.pid, "--to", to, "--json", env=node.env())
    check(res.code == 3, f"the number is taken there: {res}")
    problems = json.loads(res.out)["problems"]
    check([(p["id"], p["node"]) for p in problems] == [("E-PID-TAKEN", "peer")], f"{problems}")
    res = box.run_ckpt("check", "-t", target.pid, "--to", to, env=node.env())
    check(res.code == 3 and "peer: E-PID-TAKEN" in res.out, f"in words: {res}")
    peer.stop()
    target.finish()
    ports(box)
    shared(box)


main(body)
