# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180
"""An interactive bash in a pty with a pipeline in flight: no line of the pipeline is lost or doubled."""
import hashlib
import os

import sandbox
from _app import HERE, PYTHON, check, main, read

LINES = 1500
# producer, a shell loop, a filter and a sum: five processes and four pipes, in the foreground
PIPELINE = (f"for i in $(seq {LINES}); do echo $i; read -t 0.002 <> <(:); done | tee out.tee | "
            "while read x; do echo $((x * x)); done | awk '{s += $1; print s; fflush()}' | sha256sum")


def body(app):
    fifo, transcript = os.path.join(app.dir, "fifo"), os.path.join(app.dir, "transcript")
    os.mkfifo(fifo)
    app.start([PYTHON, "-B", os.path.join(HERE, "_ptyhost.py"), fifo, transcript], "bash",
              env={"PS1": "ready> ", "TERM": "dumb"})
    keys = os.open(fifo, os.O_RDWR)

    def type_(text):
        os.write(keys, text.encode())

    def said():
        return read(transcript).replace("\r\n", "\n")

    def expect(text, what, count=1, timeout=30):
        app.ready(lambda: said().count(text) >= count, f"{what}: the transcript ends {said()[-300:]!r}", timeout)

    expect("ready> ", "a prompt")
    type_("x=before; cd " + app.dir + "; echo answer $((6 * 7))\n")
    expect("\nanswer 42", "an answer")
    total, h = 0, hashlib.sha256()
    for i in range(1, LINES + 1):
        total += i * i
        h.update(b"%d\n" % total)
    type_(PIPELINE + "; echo status $?\n")
    for turn in range(4):
        lines = read(os.path.join(app.dir, "out.tee")).count("\n")
        app.ready(lambda: read(os.path.join(app.dir, "out.tee")).count("\n") > lines + 50, "the pipeline runs")
        check(len(sandbox.tree(app.target.pid)) >= 6, "the pipeline's processes are there")
        if turn == 0:
            app.copy()
        else:
            app.move()
        check("status" not in said().split("echo status", 1)[-1], "the pipeline was in flight")
    expect("\nstatus 0", "the pipeline ends", timeout=60)
    check(h.hexdigest() + "  -" in said(), f"its sum is right: {said()[-300:]!r}")
    check(read(os.path.join(app.dir, "out.tee")) == "".join(f"{i}\n" for i in range(1, LINES + 1)),
          "no line was lost or doubled")
    # job control and the line discipline belong to the terminal
    type_("sleep 1000\n")
    app.ready(lambda: any(read(f"/proc/{p}/comm") == "sleep\n" for p in sandbox.tree(app.target.pid)), "sleep runs")
    type_("\x1a")
    expect("Stopped", "ctrl-Z stops the job")
    app.move()
    type_("jobs; echo x is $x\n")
    expect("Stopped", "the job is still stopped", 2)
    expect("\nx is before", "the shell's variables are there")
    type_("fg\n")
    expect("\nsleep 1000\n", "the job goes on")
    app.move()
    type_("\x03")
    type_("echo code $?\n")
    expect("\ncode 130", "ctrl-C ends it")
    type_("stty size; stty -a | grep -c echo; exit 7\n")
    os.close(keys)
    status = app.box.wait_pid(app.target.pid, "end of the terminal program")
    check(os.waitstatus_to_exitcode(status) == 7, f"bash's exit status came through: {status:#x}")


main(body, network=False)
