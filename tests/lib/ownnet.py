# SPDX-License-Identifier: GPL-2.0-only
"""A network namespace for one script and what it starts: every port is free, and every nftables table is ours."""
import ctypes
import subprocess

from sandbox import check

CLONE_NEWNET = 0x40000000


def enter():
    check(not ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET), "cannot make a network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def tables():
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.strip()


def backlogs():
    """How many connections wait at each listening socket."""
    out = subprocess.run(["ss", "-Htln"], capture_output=True, text=True, check=True).stdout
    return sorted(int(line.split()[1]) for line in out.splitlines())
