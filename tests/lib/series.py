# SPDX-License-Identifier: GPL-2.0-only
"""What ckpt keeps between the checkpoints of a program: its keepers, and the folder of a series."""
import os

from sandbox import pids, read, state


def keepers():
    """The keepers of tracking sessions that live in this pid namespace."""
    return [p for p in pids() if read(f"/proc/{p}/comm") == "ckpt-keeper\n" and state(p) not in ("Z", "")]


def complete(folder):
    """The numbers of the checkpoints in the folder of a series, without one that is just being written."""
    return sorted(int(n) for n in os.listdir(folder)
                  if n.isdigit() and os.path.exists(f"{folder}/{n}/inventory"))
