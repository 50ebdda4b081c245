# SPDX-License-Identifier: GPL-2.0-only
"""What ckpt keeps between the checkpoints of a program: its keepers, and the folder of a series."""
import os
import re

from sandbox import pids, read, state


def keepers():
    """The keepers of tracking sessions that live in this pid namespace."""
    return [p for p in pids() if read(f"/proc/{p}/comm") == "ckpt-keeper\n" and state(p) not in ("Z", "")]


def complete(folder):
    """The numbers of the checkpoints in the folder of a series, without one that is just being written."""
    return sorted(int(n) for n in os.listdir(folder)
                  if n.isdigit() and os.path.exists(f"{folder}/{n}/inventory"))


def bases(folder):
    """What folds made in the folder of a series, without one that is just being written."""
    return sorted(n for n in os.listdir(folder) if n.startswith("base-") and os.path.exists(f"{folder}/{n}/inventory"))


def chain(image):
    """The names of the checkpoints beside this one that it needs: its records have their paths."""
    with open(os.path.join(image, "records"), "rb") as f:
        return {name.decode() for name in re.findall(rb"\.\./((?:base-)?[0-9]{6})(?![0-9])", f.read())}


# A chain may have 64; a fold takes its time; and then there are two bases at most.
CHAIN, MEANWHILE, BASES = 64, 16, 2


def bound(keep):
    """How much there may be in the folder of a series that keeps @keep, with its link."""
    return keep + CHAIN + MEANWHILE + BASES + 1


def litter(folder):
    """What is in the folder of a series and is neither a checkpoint, nor one that a checkpoint needs, nor the link."""
    made = [f"{n:06d}" for n in complete(folder)]
    used = set().union(*(chain(os.path.join(folder, n)) for n in made))
    return sorted(n for n in os.listdir(folder) if n not in made and n != "latest" and not (n in used and n.startswith("base-")))
