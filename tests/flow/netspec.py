# SPDX-License-Identifier: GPL-2.0-only
"""docs/netlink/ckpt.yaml says what include/uapi/linux/ckpt.h says: the same commands, attributes, flags and values in the
same order, the same types, the same attributes in each message, and the layout of a run."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import ROOT, read  # noqa: E402

header = read(os.path.join(ROOT, "include/uapi/linux/ckpt.h"))
yaml = read(os.path.join(ROOT, "docs/netlink/ckpt.yaml"))
problems = []


def same(what, ours, theirs):
    if not ours or ours != theirs:
        problems.append(f"{what}: {ours} in the header, {theirs} in the specification")


def dashed(name):
    return name.lower().replace("_", "-")


def words(text):
    return [w for w in re.split(r"[\s,]+", text.strip()) if w]


def part(name):
    """One top-level part of the specification."""
    return re.search(rf"^{name}:\n((?: .*\n|\n)*)", yaml, re.M).group(1)


# Flags and enumerations: the n-th entry has the n-th bit, or the n-th value from value-start on.
entries = dict(re.findall(r"name: (\S+)\n(?:    (?:value-start|doc): .*\n)*    entries: \[ (.*?) \]", part("definitions")))
starts = set(re.findall(r"name: (\S+)\n    value-start: 1\n", yaml))
FLAGS = {"feature": "FEATURE", "session-flags": "SESSION", "collect-flags": "COLLECT", "result-flags": "RESULT"}
for name, prefix in FLAGS.items():
    bits = re.findall(rf"^#define CKPT_{prefix}_(\w+)\s+\(1U(?:LL)? << (\d+)\)", header, re.M)
    same(name, [(dashed(n), int(b)) for n, b in bits], [(n, i) for i, n in enumerate(words(entries.get(name, "")))])
for name, prefix in (("run-state", "RUN"), ("event-type", "EVENT")):
    values = re.findall(rf"^\tCKPT_{prefix}_(\w+) = (\d+),", header, re.M)
    same(name, sorted((int(v), dashed(n)) for n, v in values), list(enumerate(words(entries.get(name, "")), int(name in starts))))
same("definitions", sorted([*FLAGS, "run-state", "event-type"]), sorted(entries))

# Attributes, in order and with their types; "nested" and "binary" are what the specification says in its own words.
told = re.findall(r"^\tCKPT_A_(\w+),(?:\t+/\* (\w+))?", header, re.M)
listed = re.findall(r"- \{ name: (\S+?), type: (\w+)", part("attribute-sets"))
kinds = {"unspec": "unused", "pad": "pad", "nested": "nest"}
same("attributes", [(dashed(n), kinds.get(t or dashed(n), t)) for n, t in told], listed)

# Commands: a unified model, so that the first value is given and the others follow.
commands = re.search(r"enum ckpt_cmd \{(.*?)\};", header, re.S).group(1)
operations = part("operations")
ops = dict(re.findall(r"^    -\n      name: (\S+)\n((?:      .*\n)*)", operations, re.M))
same("commands", [dashed(c) for c in re.findall(r"^\tCKPT_CMD_(\w+),", commands, re.M)], ["unspec", *ops])
same("the first command", "value: 1", (re.findall(r"value: \d+", operations) or [""])[0])

# Messages: what the drawing in the header has, in any order.
drawing = re.sub(r"^ \*", "", header[header.index(" * Messages ("):header.index(" * A snapshot (")], flags=re.M)
drawn = re.findall(r"^\s+([A-Z]+)\s+(?:←(.*)\n\s+)?→(.*)$", drawing, re.M)
results = re.search(r"&results \{ attributes: \[ (.*?) \] \}", operations).group(1)
for name, request, reply in drawn:
    op = ops.get(dashed(name), "")
    asked = re.search(r"request: \{ attributes: \[ (.*?) \]", op)
    answer = re.search(r"(?:reply|event): (?:&results )?\{ attributes: \[ (.*?) \]", op)
    want = {dashed(w) for w in re.findall(r"\b[A-Z][A-Z_]+\b", request.split("(")[0])}
    same(f"{name}'s request", sorted(want) or [""], sorted(words(asked.group(1))) if asked else [""])
    text = re.sub(r"n:RESULT\{.*?\}", "RESULT", re.sub(r"\(.*?\)", "", reply.split("…")[0]))
    want = {dashed(w) for w in re.findall(r"\b[A-Z][A-Z_]+\b", text)}
    if reply.strip() == "as ARM" or "*results" in op:
        same(f"{name}'s answer", words(results), ["session", "result"])
    else:
        same(f"{name}'s answer", sorted(want) or [""], sorted(words(answer.group(1))) if answer else [""])
same("messages", sorted(dashed(d[0]) for d in drawn), sorted(ops))
for name in ("RUNS", "STATUS"):
    if re.search(rf"{name}\s+←.*\(NLM_F_DUMP\)", drawing) is None or "      dump:\n" not in ops.get(dashed(name), ""):
        problems.append(f"{name} is a dump in one of the two only")

# The layout of a run, and the names.
members = re.findall(r"^\t__(u\d+) (\w+);", header[header.index("struct ckpt_run {"):], re.M)
same("struct ckpt_run", [(n, t) for t, n in members], re.findall(r"- \{ name: (\w+), type: (u\d+)", part("definitions")))
same("version", re.search(r"CKPT_GENL_VERSION\s+(\d+)", header).group(1), re.search(r"^version: (\d+)", yaml, re.M).group(1))
same("name", re.search(r'CKPT_GENL_NAME\s+"(\w+)"', header).group(1), re.search(r"^name: (\w+)", yaml, re.M).group(1))
same("group", re.search(r'CKPT_GENL_MCGRP_EVENTS\s+"(\w+)"', header).group(1),
     re.search(r"name: (\w+)", part("mcast-groups")).group(1))

if problems:
    with open(os.path.join(os.environ["T_DIR"], "outcome"), "w") as f:
        f.write("FAIL " + "\n".join(problems))
    sys.exit(1)
