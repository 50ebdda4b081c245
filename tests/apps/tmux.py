# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120 needs=tool:tmux
"""A tmux server with two windows: shells, their variables, a running job and the scrollback come back; clients too."""
import os
import signal
import subprocess

from _app import check, main


# The shell in between unsets PS1.
SHELL = "env PS1='ready> ' bash --norc --noprofile"


def body(app):
    sock = os.path.join(app.dir, "tmux")
    env = {"TERM": "xterm", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": app.dir,
           "SHELL": "/bin/bash"}

    def tmux(*args, must=True):
        res = subprocess.run(["tmux", "-S", sock, *args], capture_output=True, text=True, env=env, check=False, timeout=60,
                             stdin=subprocess.DEVNULL)
        check(not must or res.returncode == 0, f"tmux {args}: {res.stderr}")
        return res.stdout

    def type_(window, text):
        tmux("send-keys", "-t", window, text, "Enter")

    def expect(window, text, what):
        app.ready(lambda: text in tmux("capture-pane", "-p", "-S", "-", "-t", window),
                  f"{what}: {tmux('capture-pane', '-p', '-t', window).strip()[-300:]!r}")

    app.start(["tmux", "-D", "-S", sock, "-f", "/dev/null"], "tmux", env=env)
    app.ready(lambda: os.path.exists(sock), "the server listens")
    for name in ("one", "two"):
        words = ["new-session", "-d", "-s", "s", "-x", "100", "-y", "30"] if name == "one" else ["new-window", "-d"]
        tmux(*words, "-n", name, SHELL)
        expect(f"s:{name}", "ready>", "a prompt")
    type_("s:one", "x=before; seq 1 200; echo answer $((6 * 7))")
    expect("s:one", "answer 42", "an answer")
    type_("s:two", "sleep 1000")
    app.ready(lambda: tmux("display", "-p", "-t", "s:two", "#{pane_current_command}").strip() == "sleep", "a job runs")
    for turn in range(2):
        app.move()
        app.ready(lambda: "two" in tmux("list-windows", "-t", "s", must=False), f"tmux answers after restore {turn + 1}")
        check("\n77\n" in tmux("capture-pane", "-p", "-S", "-", "-t", "s:one"), "the scrollback")
        type_("s:one", f"echo $x {turn}")
        expect("s:one", f"\nbefore {turn}", "the shell's variable")
        check(tmux("display", "-p", "-t", "s:two", "#{pane_current_command}").strip() == "sleep", "the job")
    tmux("send-keys", "-t", "s:two", "C-c")
    type_("s:two", "echo code $?")
    expect("s:two", "\ncode 130", "ctrl-C ends the job")
    tmux("select-window", "-t", "s:two")        # others change their size when they are looked at
    tmux("resize-window", "-t", "s:two", "-x", "60", "-y", "20")
    type_("s:two", "until [ \"$(stty size)\" = '20 60' ]; do sleep 0.1; done; clear; echo it is $LINES $COLUMNS")
    expect("s:two", "it is 20 60", "the window's size")
    tmux("new-window", "-d", "-n", "three", "-t", "s", SHELL)
    expect("s:three", "ready>", "a new window")
    tmux("kill-server", must=False)
    status = app.box.wait_pid(app.target.pid, "end of tmux")
    check(os.waitstatus_to_exitcode(status) in (0, -signal.SIGTERM), f"tmux ends: {status:#x}")


main(body, network=False)
