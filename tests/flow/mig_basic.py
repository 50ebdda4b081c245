#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Programs move to a second node over a unix socket and over TLS, and verify themselves there."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from node import Node  # noqa: E402
from sandbox import BUILD, check, main  # noqa: E402

PROGRAMS = ("task_simple", "task_thread", "vma_shmem", "vma_many", "task_timers", "fd_epoll")


def move(box, node, prog, to, *args):
    target = box.start(os.path.join(BUILD, "tests/kind", prog), subdir=f"{prog}-{len(os.listdir(box.dir))}")
    target.wait_ready()
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", to, *args, env=node.env())
    check(res.code == 0, f"{prog}: {res}")
    box.wait_pid(target.pid, f"{prog} is ended at the source")
    node.finish(target, prog)


def refused(box, node, psk, pair):
    """Who does not hold the key gets nowhere, and the program goes on."""
    other = os.path.join(box.dir, "other")
    check(box.run_ckpt("keygen", "--psk", other).code == 0, "keygen")
    res = box.run_ckpt("receive", "--listen", "127.0.0.1:0", "--key", other + ".none", env=node.env())
    check(res.code == 2 and "cannot open the key" in res.err, f"a missing key is said at once: {res}")
    peer = node.receive("--listen", "127.0.0.1:0", "--key", psk)
    target = box.start(os.path.join(BUILD, "tests/kind/task_simple"), subdir="refused")
    target.wait_ready()
    for args in (("--key", other), ("--key", f"{pair}/source.pem"), ("--insecure",)):
        res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, *args, env=node.env())
        check(res.code == 1 and "E-PEER" in res.err, f"{args} is refused: {res}")
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, env=node.env())
    check(res.code == 2, f"TCP without a key is refused: {res}")
    peer.stop()
    # A peer with the wrong key is not given the program either.
    peer = node.receive("--listen", "127.0.0.1:0", "--key", f"{pair}/peer.pem")
    res = box.run_ckpt("migrate", "-t", target.pid, "--to", peer.where, "--key", f"{pair}/peer.pem",
                       env=node.env())
    check(res.code == 1 and "E-PEER" in res.err, f"the wrong half is refused: {res}")
    peer.stop()
    target.finish()


def body(box):
    node = Node(box, "b")
    sock = os.path.join(box.dir, "sock")
    peer = node.receive("--unix", sock)
    for prog in PROGRAMS:
        move(box, node, prog, f"unix:{sock}")
    peer.stop()
    pair = os.path.join(box.dir, "pair")
    psk = os.path.join(box.dir, "psk")
    for args in (("-o", pair), ("--psk", psk)):
        res = box.run_ckpt("keygen", *args)
        check(res.code == 0, f"keygen: {res}")
    for source, there in ((f"{pair}/source.pem", f"{pair}/peer.pem"), (psk, psk)):
        peer = node.receive("--listen", "127.0.0.1:0", "--key", there, "--once")
        move(box, node, "task_thread", peer.where, "--key", source)
        box.wait(lambda: peer.ended() is not None, "--once ends after one program")
        check(peer.ended() == 0, f"receive --once: {peer.text()}")
    refused(box, node, psk, pair)
    peer = node.receive("--listen", "127.0.0.1:0", "--insecure")
    move(box, node, "task_simple", peer.where, "--insecure")
    # The peer forgets once the source has said that it knows, which may be after the program's end.
    box.wait(lambda: not [f for f in os.listdir(node.run_dir) if f.startswith(("source-", "peer-"))],
             f"decisions are forgotten: {os.listdir(node.run_dir)}")


main(body)
