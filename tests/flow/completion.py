# SPDX-License-Identifier: GPL-2.0-only
"""What make install installs is there, and bash completes every command and option that --help names."""
import os
import re
import subprocess

from sandbox import ROOT, check, main

FILES = ("sbin/ckpt", "share/man/man8/ckpt.8", "share/bash-completion/completions/ckpt", "share/zsh/site-functions/_ckpt",
         "share/doc/ckpt/SECURITY.md")


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

    def text(*args):
        return subprocess.run([ckpt, *args], capture_output=True, text=True, check=True).stdout

    commands = [c for c in re.findall(r"^  ([a-z]+) ", text("--help"), re.M) if c != "ckpt"]
    check(len(commands) > 5, f"ckpt --help names commands: {commands}")
    for command in commands:
        check(command in complete(command[:2]), f"bash does not complete {command}: {complete(command[:2])}")
        for option in re.findall(r"^ .{1,8}(--[a-z-]+)", text(command, "--help"), re.M):
            check(option in complete(command, option[:3]), f"bash does not complete {command} {option}")


main(body)
