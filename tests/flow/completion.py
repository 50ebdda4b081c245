# SPDX-License-Identifier: GPL-2.0-only
"""What make install installs is there, and bash and zsh complete every command and option that --help names."""
import os
import re
import subprocess

from sandbox import ROOT, check, main

FILES = ("sbin/ckpt", "share/man/man8/ckpt.8", "share/bash-completion/completions/ckpt", "share/zsh/site-functions/_ckpt",
         "share/doc/ckpt/SECURITY.md")


# What zsh's completion system would show, a line each.
ZSH = """
_describe() { print -l -- ${${(P)2}%%:*} }
compadd() { shift; print -l -- "$@" }
_pids() { print PIDS }
_files() { print FILES }
complete_it() { . $1 }
file=$1
shift
words=("$@") CURRENT=$#
complete_it $file
"""


def body(box):
    root = os.path.join(box.dir, "root")
    res = box.run(["make", "-s", "-C", ROOT, "install", f"DESTDIR={root}", "PREFIX=/usr"])
    check(res.code == 0, f"make install: {res}")
    for name in FILES:
        check(os.path.exists(os.path.join(root, "usr", name)), f"make install does not install {name}")
    ckpt = os.path.join(root, "usr/sbin/ckpt")

    def complete(*words):
        script = (f". {root}/usr/share/bash-completion/completions/ckpt; COMP_WORDS=({ckpt} {' '.join(words)} ''); "
                  f"COMP_WORDS[{len(words)}]=${{COMP_WORDS[{len(words)}]:-}}; COMP_CWORD={len(words)}; _ckpt; "
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout.split()

    def complete_zsh(*words):
        res = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", f"{root}/usr/share/zsh/site-functions/_ckpt", ckpt, *words],
                             capture_output=True, text=True)
        check(res.returncode == 0 and not res.stderr, f"zsh, {words}: {res}")
        return res.stdout.split()

    def text(*args):
        return subprocess.run([ckpt, *args], capture_output=True, text=True, check=True).stdout

    commands = [c for c in re.findall(r"^  ([a-z]+) ", text("--help"), re.M) if c != "ckpt"]
    check(len(commands) > 5, f"ckpt --help names commands: {commands}")
    check(sorted(complete_zsh("")) == sorted(commands), f"zsh completes {complete_zsh('')}")
    for command in commands:
        check(command in complete(command[:2]), f"bash does not complete {command}: {complete(command[:2])}")
        options = re.findall(r"^ .{1,8}(--[a-z-]+)", text(command, "--help"), re.M)
        zsh = complete_zsh(command, "--")
        for option in options:
            check(option in complete(command, option[:3]), f"bash does not complete {command} {option}")
            check(option in zsh, f"zsh does not complete {command} {option}: {zsh}")
    me = str(os.getpid())
    check(me in complete("dump", "-t", me), "bash completes processes")
    check(complete_zsh("dump", "-t", "") == ["PIDS"] and complete_zsh("show", "-D", "") == ["FILES"], "zsh completes their arguments")


main(body)
