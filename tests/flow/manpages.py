# SPDX-License-Identifier: GPL-2.0-only
"""Help and manual say the same: every command has a page that explains every option its --help names, and
--help fits a terminal of 80 columns. The pages of the image and of the module name what code and contract name,
and no page names an error that there is not."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, ROOT, read  # noqa: E402

CKPT = os.path.join(BUILD, "ckpt")


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
for args in ((), *((c,) for c in commands)):
    problems += [f"{' '.join(args)} --help: over 80 columns: {line}" for line in text_of(*args, "--help").splitlines()
                 if len(line) > 80]
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


def file_of(*path):
    return read(os.path.join(ROOT, *path))


image = file_of("docs/man/ckpt-image.5")
for name, number in re.findall(r"CKPT_REC_(\w+) = (\d+)", file_of("tools/image/format.h")):
    if not re.search(rf"^\.B {number} {name}$", image, re.M):
        problems.append(f"docs/man/ckpt-image.5 does not explain record {number} {name}")
version = re.search(r"#define CKPT_IMAGE_FORMAT (\d+)", file_of("tools/image/format.h")).group(1)
if f"format version is {version}." not in image:
    problems.append(f"docs/man/ckpt-image.5 does not say format version {version}")
module = file_of("docs/man/ckpt-module.7").replace("\\-", "-")
for name in re.findall(r"^What:\s*(\S+)", file_of("docs/abi/sysfs-kernel-ckpt"), re.M):
    if f".I {name}\n" not in module:
        problems.append(f"docs/man/ckpt-module.7 does not explain {name}")
# The interface of the module: what the header and the source have, the two descriptions have, too.
header, yaml = file_of("include/uapi/linux/ckpt.h"), file_of("docs/netlink/ckpt.yaml")
for name in sorted(set(re.findall(r"\bCKPT_(?:CMD|A|EVENT|RUN|RESULT|FEATURE|COLLECT|SESSION)_(\w+)\b", header))):
    if not name.endswith("FLAGS_ALL") and not re.search(r"\b" + name.lower().replace("_", "-") + r"\b", yaml):
        problems.append(f"docs/netlink/ckpt.yaml does not know {name}")
source = file_of("kmod/sysfs.c")
for name in re.findall(r"static struct kobj_attribute (\w+)_attr|^COUNTER\((\w+),", source, re.M):
    if not re.search(rf"^What:.*/{name[0] or name[1]}$", file_of("docs/abi/sysfs-kernel-ckpt"), re.M):
        problems.append(f"docs/abi/sysfs-kernel-ckpt does not explain {name[0] or name[1]}")
commands = re.search(r"enum ckpt_cmd \{(.*?)\};", file_of("include/uapi/linux/ckpt.h"), re.S).group(1)
for name in re.findall(r"^\s*CKPT_CMD_(\w+)", commands, re.M):
    if name != "UNSPEC" and f".B {name}\n" not in module:
        problems.append(f"docs/man/ckpt-module.7 does not explain the command {name}")
errors = set(re.findall(r"\bE-[A-Z][A-Z-]+[A-Z]\b", file_of("docs/errors.md")))
for page in os.listdir(os.path.join(ROOT, "docs/man")):
    text = file_of("docs/man", page).replace("\\-", "-")
    for name in set(re.findall(r"\bE-[A-Z][A-Z-]+[A-Z]\b", text)) - errors:
        problems.append(f"docs/man/{page} names {name}, which docs/errors.md does not know")
if problems:
    with open(os.path.join(os.environ["T_DIR"], "outcome"), "w") as f:
        f.write("FAIL " + "\n".join(problems))
    sys.exit(1)
