# SPDX-License-Identifier: GPL-2.0-only
"""Descriptors that lead out of the tree are left out by name (dump --external) and others are handed over in their place
(restore --inherit-fd): pipes, a unix socket, a log file. What does not fit is refused before anything is made."""
import os
import socket
import subprocess

from sandbox import check, main, read

PROGRAM = r"""
import os, select, socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
log = open(sys.argv[2], "a", buffering=1)
count = 0
poll = select.epoll()
poll.register(0, select.EPOLLIN)
poll.register(peer, select.EPOLLIN)
while True:
    for fd, _ in poll.poll():
        data = os.read(0, 100) if fd == 0 else peer.recv(100)
        if not data:
            log.write("end of %d\n" % fd)
            poll.unregister(fd)
            continue
        count += 1
        answer = b"%d %s" % (count, data)
        os.write(1, answer) if fd == 0 else peer.send(answer)
"""


def body(box):
    log, log2 = os.path.join(box.dir, "app.log"), os.path.join(box.dir, "new.log")
    to_app, app_in = os.pipe()[::-1]
    app_out, from_app = os.pipe()[::-1]
    mine, theirs = socket.socketpair()
    err = open(os.path.join(box.dir, "err"), "w")
    child = subprocess.Popen(["/usr/bin/python3", "-c", PROGRAM, str(theirs.fileno()), log], stdin=app_in, stdout=app_out,
                             stderr=err, pass_fds=[theirs.fileno()], start_new_session=True)
    child.returncode = 0
    names = [os.readlink(f"/proc/{child.pid}/fd/{n}") for n in (0, 1, theirs.fileno())]
    for fd in (app_in, app_out):
        os.close(fd)
    theirs.close()

    def ask(write, reader, want):
        os.write(write, b"ping")
        got = os.read(reader, 100)
        check(got == want, f"{want} expected, got {got}")

    ask(to_app, from_app, b"1 ping")
    ask(mine.fileno(), mine.fileno(), b"2 ping")

    # Refused, with the way out; a name that nobody has is refused as well.
    res = box.refused(child.pid, "E-UNSUPPORTED", "is held outside the tree")
    res = box.run_ckpt("check", "-t", child.pid)
    check(res.code == 3 and all(f"--external '{n}'" in res.out for n in names), f"names expected: {res}")
    outside = [w for n in names for w in ("--external", n)]
    res = box.run_ckpt("check", "-t", child.pid, *outside)
    check(res.code == 0, f"nothing stops it with --external: {res}")
    res = box.run_ckpt("dump", "-t", child.pid, "-D", box.image, *outside, "--external", "pipe:[1]")
    check(res.code == 2 and "pipe:[1]" in res.err, f"a name that nobody has: {res}")

    res = box.run_ckpt("dump", "-t", child.pid, "-D", box.image, "--kill", *outside)
    check(res.code == 0, f"{res}")
    box.wait_pid(child.pid, "end of the program")
    check(os.read(from_app, 1) == b"" and mine.recv(1) == b"", "its ends are closed")
    shown = box.run_ckpt("show", "-D", box.image).out
    check(all(f"--inherit-fd N:'{n}'" in shown for n in names), f"show names what is external: {shown}")

    def restore(code, text, *args, fds=(), command=("restore", "--detach")):
        p = subprocess.run([box.ckpt, *command, "-D", box.image, *args], capture_output=True, text=True,
                           pass_fds=fds, stdin=subprocess.DEVNULL, check=False)
        p.stderr += p.stdout
        box.log(f"{args}: exit {p.returncode} {p.stderr}")
        check(p.returncode == code and text in p.stderr, f"exit {code} and '{text}' expected: {p.returncode} {p.stderr}")

    restore(3, "E-EXTERNAL")
    restore(3, "is not open for that", "--inherit-fd", f"{to_app}:{names[0]}", fds=[to_app])
    restore(2, "pipe:[1]", "--inherit-fd", "0:pipe:[1]")
    restore(2, "is not open", "--inherit-fd", f"99:{names[0]}")
    restore(2, "takes N:NAME", "--inherit-fd", names[0])

    # Other pipes, another socket, another log file.
    os.close(from_app)
    os.close(to_app)
    to_app, app_in = os.pipe()[::-1]
    app_out, from_app = os.pipe()[::-1]
    mine, theirs = socket.socketpair()
    new = os.open(log2, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    given = [app_in, app_out, theirs.fileno(), new]
    args = [w for fd, n in zip(given, [*names, log]) for w in ("--inherit-fd", f"{fd}:{n}")]
    restore(3, "E-EXTERNAL", command=("check",))
    restore(0, "Nothing stops", *args, fds=given, command=("check",))
    restore(0, "", *args, fds=given)
    for fd in (app_in, app_out, new):
        os.close(fd)
    theirs.close()
    ask(to_app, from_app, b"3 ping")
    ask(mine.fileno(), mine.fileno(), b"4 ping")
    mine.close()
    box.wait(lambda: "end of" in read(log2), "the program's line in its new log")
    check(read(log) == "", "nothing in the old log")
    os.kill(child.pid, 9)
    box.wait_pid(child.pid, "end of the program")

    # Nobody at the other end: the program reads their ends.
    restore(0, "", *[w for n in names for w in ("--inherit-fd", "closed:" + n)])
    box.wait(lambda: read(log).count("end of") == 2, "the program finds its pipe and its socket closed")
    os.kill(child.pid, 9)


main(body)
