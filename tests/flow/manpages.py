# SPDX-License-Identifier: GPL-2.0-only
"""Help and manual say the same: every command has a page that explains every option its --help names, and
--help fits a terminal of 80 columns."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import ROOT, read  # noqa: E402

CKPT = os.path.join(ROOT, "build/ckpt")


def text_of(*argv):
    return subprocess.run([CKPT, *argv], capture_output=True, text=True, check=True).stdout


def page_of(command):
    page = read(os.path.join(ROOT, f"docs/man/ckpt-{command}.8"))
    if page.startswith(".so man8/"):
        page = read(os.path.join(ROOT, "docs/man", page.split("/", 1)[1].strip()))
    return page.replace("\\-", "-").replace("\\fI", "").replace("\\fR", "")


problems = []
commands = re.findall(r"^  ([a-z]+) ", text_of("--help").split("--help")[0], re.M)
commands = [c for c in commands if c != "ckpt"]
main_page = read(os.path.join(ROOT, "docs/man/ckpt.8")).replace("\\-", "-")
if not commands:
    problems.append("ckpt --help names no command")
for command in commands:
    text = text_of(command, "--help")
    page = page_of(command) + main_page
    if not page_of(command):
        problems.append(f"docs/man/ckpt-{command}.8 is missing")
    if f"ckpt-{command}" not in main_page:
        problems.append(f"docs/man/ckpt.8 does not name {command}")
    for option in sorted(set(re.findall(r"(--[a-z][a-z-]+)", text))):
        if option not in page:
            problems.append(f"docs/man/ckpt-{command}.8 does not explain {option}")
    problems += [f"{command} --help: over 80 columns: {line}" for line in text.splitlines() if len(line) > 80]
if problems:
    with open(os.path.join(os.environ["T_DIR"], "outcome"), "w") as f:
        f.write("FAIL " + "\n".join(problems))
    sys.exit(1)
