# SPDX-License-Identifier: GPL-2.0-only
"""The program tests/flow/watched.c: a process and its child that share memory, and do what they are told."""
import ctypes
import os
import struct

from sandbox import BUILD, check

PAGE, PAGES, AT, OWN = 4096, 4096, 0x620000000000, 0x610000000000
SIGUSR1 = 10
LIBC = ctypes.CDLL(None, use_errno=True)


def word(pid, addr, value=None):
    with open(f"/proc/{pid}/mem", "r+b" if value is not None else "rb", buffering=0) as f:
        f.seek(addr)
        if value is not None:
            f.write(struct.pack("<Q", value))
        return struct.unpack("<Q", f.read(8))[0] if value is None else value


def words(pid, nr):
    """The @nr-th word of every page."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as f:
        f.seek(AT)
        memory = f.read(PAGES * PAGE)
    return [struct.unpack_from("<Q", memory, i * PAGE + nr * 8)[0] for i in range(PAGES)]


def first_words(pid):
    return words(pid, 0)


def children(pid):
    return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def can_tell(tracker):
    """May one rely on it that this kernel tells all that is written to such memory?"""
    release = tuple(int(n) for n in os.uname().release.split(".")[:2])
    return tracker == "wp-async" and release >= (6, 12)


class Watched:
    def __init__(self, box, name):
        self.box, self.name = box, name
        self.target = box.start(os.path.join(BUILD, "tests/flow/watched"), subdir=name).wait_ready()
        self.parent = self.target.pid
        self.child, = children(self.parent)
        self.want = [i + 1000 if i < PAGES - PAGES // 8 else 0 for i in range(PAGES)]    # first words
        self.value = 1 << 32

    def do(self, pid, what, page=0):
        """Have @pid do it; what it writes is another value each time."""
        self.value += 1
        word(pid, OWN + 8, self.value)
        done = word(pid, OWN)
        check(LIBC.sigqueue(pid, SIGUSR1, ctypes.c_void_p(ord(what) << 16 | page)) == 0, "sigqueue")
        self.box.wait(lambda: word(pid, OWN) == done + 1, f"{what} of page {page}")
        if what in "wfxmpviO":
            self.want[page] = self.value
        elif what == "W":
            self.want[page:page + PAGES // 2] = [self.value] * (PAGES // 2)
        elif what == "R":
            self.want[page] = 0
