# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=150
"""A program in network, UTS and IPC namespaces of its own: ckpt enters them for the dump. At the restore the host name and
the System V segments come back in new ones, and the network is one that the caller names."""
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import check, main, read  # noqa: E402

PROGRAM = r"""
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
socket.sethostname("inner")
shm = libc.shmget(0x1234, 4096, 0o1600)
mem = libc.shmat(shm, None, 0)
ctypes.memmove(mem, b"kept", 4)
tcp = socket.create_server(("127.0.0.1", 7000))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
open(sys.argv[1] + ".ready", "w").close()
sem, queue = libc.semget(0x55, 3, 0o1640), libc.msgget(0x66, 0o1600)
values = (ctypes.c_ushort * 3)(3, 0, 7)
libc.semctl(sem, 0, 17, values)             # SETALL
for n in (5, 6):
    libc.msgsnd(queue, (ctypes.c_char * 20)(n, *bytes(7), *b"number %d" % n), 8, 0)
if os.fork() == 0:                          # waits for a semaphore all the time
    down = (ctypes.c_short * 3)(1, -1, 0)
    os._exit(0 if libc.semop(sem, down, 1) == 0 else 1)


def sysv():
    now = (ctypes.c_ushort * 3)()
    libc.semctl(sem, 0, 13, now)            # GETALL
    texts = []
    for n in (6, 5):
        buf = (ctypes.c_char * 20)()
        size = libc.msgrcv(queue, buf, 12, n, 0o4000)
        texts.append(buf.raw[8:8 + size].decode())
        libc.msgsnd(queue, buf, size, 0)
    return [libc.semget(0x55, 3, 0) == sem, libc.msgget(0x66, 0) == queue, list(now), libc.semctl(sem, 1, 14), texts]


alone = -1
while True:
    c, _ = unix.accept()
    word = c.recv(100)
    if word == b"alone+":
        alone = libc.shmget(0x77, 4096, 0o1600)
    if word == b"alone-":
        libc.shmctl(alone, 0, 0)
    inside = socket.create_connection(("127.0.0.1", 7000), timeout=5)
    tcp.accept()[0].close()
    inside.close()
    c.send(json.dumps({"host": socket.gethostname(), "mem": ctypes.string_at(mem, 4).decode(),
                       "shm": libc.shmget(0x1234, 0, 0) == shm, "sysv": sysv()}).encode())
    c.close()
"""


def ns(pid, name):
    return os.readlink(f"/proc/{pid}/ns/{name}")


def moved(box, pid):
    """A migration is refused from outside; both ends inside do it, as the remedy says."""
    node = Node(box, "b", net=True, ipc=True)
    inside = os.path.join(box.dir, "inside")
    with open(inside, "w") as f:
        f.write(f"#!/bin/sh\nip link set lo up\nexec unshare --uts sh -c 'hostname inner; exec \"$@\"' - {box.ckpt} \"$@\"\n")
    os.chmod(inside, 0o755)
    at = os.path.join(box.dir, "receive")
    # The name that its socket is bound to is free there.
    res = box.run(node.enter(["mount", "-t", "tmpfs", "tmpfs", os.path.join(box.dir, "names")]))
    check(res.code == 0, f"{res}")
    peer = node.receive("--unix", at, program=inside)
    args = ("migrate", "-t", str(pid), "--to", f"unix:{at}")
    res = box.run_ckpt(*args, env=node.env())
    check(res.code == 3 and "another net namespace" in res.err, f"from outside: {res}")
    res = box.run_ckpt(*args, "--check", env=node.env())
    check("--net --uts --ipc ckpt migrate" in res.err, f"the remedy: {res}")
    res = box.run(["nsenter", "-t", str(pid), "--net", "--uts", "--ipc", box.ckpt, *args], env=node.env())
    check(res.code == 0, f"from inside: {res}{peer.text()}")
    box.wait_pid(pid, "it is ended at the source")
    check(ns(node.outer(pid), "net") == ns(node.init, "net"), "it is in the network of the peer")
    return node


def body(box):
    os.mkdir(os.path.join(box.dir, "names"))
    sock = os.path.join(box.dir, "names", "sock")
    log = open(os.path.join(box.dir, "log"), "w")

    def start():
        for name in (sock, sock + ".ready"):
            if os.path.exists(name):
                os.unlink(name)
        p = box.spawn(["unshare", "--net", "--uts", "--ipc", "--", "sh", "-c", "ip link set lo up && exec /usr/bin/python3 "
                       '-c "$0" "$1"', PROGRAM, sock], log, log)
        p.returncode = 0
        box.wait(lambda: os.path.exists(sock + ".ready"), f"the program listens: {read(log.name)}")
        return p.pid
    pid = start()

    def ask(word=b"?", root=""):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(root + sock)
            s.send(word)
            return json.loads(s.recv(1000))

    # both found by their keys, values, who waits for the second, messages
    want = {"host": "inner", "mem": "kept", "shm": True,
            "sysv": [True, True, [3, 0, 7], 1, ["number 6", "number 5"]]}
    def answers(when, wanted):
        """The child waits for its semaphore again a moment later."""
        box.wait(lambda: ask() == wanted, f"the answer {when}; the first is {ask()}")

    answers("at first", want)

    # What nobody would make again is refused before anything is frozen.
    ask(b"alone+")
    res = box.run_ckpt("check", "-t", pid)
    check(res.code == 3 and "nobody has attached" in res.out, f"a segment of nobody is refused: {res}")
    box.refused(pid, "E-UNSUPPORTED", "nobody has attached")
    ask(b"alone-")

    node = moved(box, pid)
    there = f"/proc/{node.outer(pid)}/root"
    at_peer = ask(root=there)
    del at_peer["sysv"]     # from inside, these belong to the node
    check(at_peer == {k: v for k, v in want.items() if k != "sysv"}, f"it answers at the peer: {at_peer}")
    node.down()
    pid = start()
    was = {name: ns(pid, name) for name in ("net", "uts", "ipc")}
    res = box.run_ckpt("dump", "-t", pid, "-D", box.image + "copy")
    check(res.code == 0, f"{res}")
    answers("after a copy", want)
    check(ns("self", "uts") != was["uts"], "we are elsewhere")
    res = box.run_ckpt("dump", "-t", pid, "-D", box.image, "--kill")
    check(res.code == 0, f"{res}")
    box.wait_pid(pid, "end of the program")
    shown = box.run_ckpt("show", "-D", box.image).out
    check("net ipc uts (inner)" in shown, f"show tells: {shown}")

    res = box.run_ckpt("restore", "-D", box.image, "--detach")
    check(res.code == 3 and "E-EXTERNAL" in res.err and "--join-ns net:" in res.err, f"a network is needed: {res}")
    res = box.run_ckpt("check", "-D", box.image)
    check(res.code == 3 and "--join-ns net:" in res.out, f"and so says a check: {res}")
    res = box.run_ckpt("check", "-D", box.image, "--join-ns", "net:host")
    check(res.code == 0, f"nothing else stops it: {res}")
    res = box.run_ckpt("restore", "-D", box.image, "--detach", "--join-ns", "net:/dev/null")
    check(res.code == 3 and "/dev/null" in res.err, f"no namespace: {res}")
    res = box.run_ckpt("restore", "-D", box.image, "--detach", "--join-ns", "mnt:/x")
    check(res.code == 2, f"another type: {res}")

    # util-linux's way to give a namespace a name, like ip netns
    path = os.path.join(box.dir, "netns")
    open(path, "w").close()
    res = box.run(["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"])
    check(res.code == 0, f"{res}")
    host = socket.gethostname()
    for turn in range(2):
        box.restore("--join-ns", f"net:{path}", image=f"{box.image}{turn or ''}")
        answers(f"after restore {turn + 1}", want)
        check(os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(path).st_ino, "it is in the network that was named")
        for name in ("uts", "ipc"):
            # The number of the one that it had may be given again.
            check(ns(pid, name) != ns("self", name), f"its {name} namespace is not ours")
        check(socket.gethostname() == host, "our host name")
        res = box.run_ckpt("dump", "-t", pid, "-D", f"{box.image}{turn + 1}", "--kill")
        check(res.code == 0, f"{res}")
        box.wait_pid(pid, "end of the program")
    box.restore("--pidns", "--join-ns", f"net:{path}", "--join-ns", "uts:host", image=box.image + "2")
    answers("with the caller's host name", {**want, "host": host})
    box.run(["umount", path])


main(body)
