# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240 serial
"""A large program of whose page faults the kernel tells: increments look where it faulted and nowhere else, whichever way it
writes; and everywhere where something may have been written, dropped or moved in another way, by itself or by others. Each
increment is restored and looked through. ckpt looks elsewhere as well here, and fails if there is anything that it was not told
of. T_TRACKER says by which back end."""
import ctypes
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, Skip, check, main, read  # noqa: E402

PAGE, PAGES, AT, VALUE = 4096, 40960, 0x620000000000, 1 << 32
HOLES = PAGES - PAGES // 8      # from there on nothing was written at the beginning
SIGUSR1 = 10
LIBC = ctypes.CDLL(None, use_errno=True)


class Logged:
    def __init__(self, box, name="one"):
        self.box, self.name, self.asked, self.images = box, name, 0, []
        self.target = box.start(os.path.join(BUILD, "tests/flow/logged"), subdir=name)
        self.pid = self.target.pid
        self.want = [i + 1000 if i < HOLES else 0 for i in range(PAGES)]    # first words
        box.wait(lambda: os.path.exists(self.target.file("done")) and self.done() == 0, "the program")

    def done(self):
        with open(self.target.file("done"), "rb") as f:
            return struct.unpack("<Q", f.read(8).ljust(8, b"\xff"))[0]

    def do(self, what, page=0):
        self.asked += 1
        value = VALUE + self.asked
        check(LIBC.sigqueue(self.pid, SIGUSR1, ctypes.c_void_p(ord(what) << 16 | page)) == 0, "sigqueue")
        self.box.wait(lambda: self.done() == self.asked, f"{what} of page {page}")
        if what in "wskvmMPf":
            self.want[page] = value
        elif what in "dplG":
            self.want[page] = 0
        elif what == "g":
            self.want[page] = None
        elif what == "W":
            for i in range(page, page + 3200, 16):
                self.want[i] = value
        elif what == "A":
            self.want[page:page + 6000] = [value] * 6000
        elif what == "x":
            self.want[page + 1], self.want[page] = self.want[page], 0

    def from_outside(self, page, vm):
        """As a debugger writes."""
        value = VALUE + 1000000 + page
        word = struct.pack("<Q", value)
        if vm:
            buf = ctypes.create_string_buffer(word)

            class Vec(ctypes.Structure):
                _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

            own, its = Vec(ctypes.addressof(buf), 8), Vec(AT + page * PAGE, 8)
            check(LIBC.process_vm_writev(self.pid, ctypes.byref(own), 1, ctypes.byref(its), 1, 0) == 8, "process_vm_writev")
        else:
            with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as f:
                f.seek(AT + page * PAGE)
                f.write(word)
        self.want[page] = value

    def increment(self, name):
        """Was it told?"""
        image = os.path.join(self.box.dir, f"{self.name}-{len(self.images):02}-{name}")
        tracker = os.environ.get("T_TRACKER")
        how = ["--parent", self.images[-1][0]] if self.images else ["--track", *(("--tracker", tracker) if tracker else ())]
        res = self.box.dump(self.target, *how, "--json", "-v", "-v", image=image)
        check("full checkpoint" not in res.err, f"{res}")
        self.images.append((image, list(self.want)))
        stats = json.loads(res.out)["stats"]
        self.tracker = stats["tracker"]
        check(("the log of page faults tells" in res.err) == (stats["spaces_told"] > 0), f"{res}")
        return stats["spaces_told"] > 0


def first_words(pid):
    """None: it cannot be read."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as f:
        memory, words = b"", []
        while len(words) < PAGES:
            f.seek(AT + len(words) * PAGE)
            try:
                memory = f.read((PAGES - len(words)) * PAGE)
            except OSError:
                words.append(None)
                continue
            words += [struct.unpack_from("<Q", memory, i)[0] for i in range(0, len(memory), PAGE)]
    return words


def places(box):
    """There are two logs at a time; whoever ends leaves his to the next one."""
    three = [Logged(box, f"place{n}") for n in range(3)]
    told = [[p.increment("idle") for _ in range(5)][-1] for p in three]
    check(told == [True, True, False], f"told: {told}")
    check(box.run_ckpt("track", "stop", "-t", str(three[0].pid)).code == 0, "track stop")
    check([three[2].increment("idle") for _ in range(4)][-1], "the third has no log")
    check(three[1].increment("idle"), "the second has lost its log")
    for p in three:
        box.end_tree(p.pid)


def body(box):
    box.ckpt = os.path.join(BUILD, "ckpt-test")
    os.environ["CKPT_FAULT"] = "track.told:fail"
    p = Logged(box)
    told = [p.increment("idle") for _ in range(4)]

    def step(what, page, tells, name=None):
        p.do(what, page)
        is_told = p.increment(name or f"{what}-{page}")
        check(tells is None or is_told == (tells and told[-1]), f"{what} of page {page}: told {is_told}")

    for what, page, tells in (
            # By the processor, wherever it is.
            ("w", 5, True), ("i", 0, True), ("s", 6000, True), ("k", 6001, True), ("w", 5, True), ("W", 2, True), ("k", 5, True),
            # What was never there.
            ("r", HOLES + 3, True), ("w", HOLES + 3, True), ("k", HOLES + 600, True), ("w", HOLES + 1500, True),
            # By the kernel for the program, and what the stop after it has.
            ("v", 7, False), ("i", 0, True), ("m", 8, False), ("i", 0, True), ("p", HOLES + 700, False), ("i", 0, True),
            ("l", HOLES + 1200, False), ("i", 0, True),
            # What is gone.
            ("d", 9, False), ("i", 0, True), ("d", HOLES + 1, None), ("w", 9, None), ("i", 0, True),
            ("g", HOLES + 2000, None), ("G", HOLES + 2000, None), ("i", 0, None), ("i", 0, True),
            # What becomes another mapping.
            ("M", 4000, False), ("i", 0, True), ("x", 4500, False), ("i", 0, True), ("P", 4600, False), ("i", 0, True),
            ("f", 4700, False), ("w", 4701, True),
            # So many that a look at all is quicker, and what they leave.
            ("A", 10000, None), ("i", 0, None), ("i", 0, True), ("w", 12000, True)):
        step(what, page, tells)
    for vm in (False, True):
        p.from_outside(20000 + vm, vm)
        check(not p.increment("outside"), "somebody else wrote")
        step("w", 20000 + vm, True)
    # Whoever looks may have written.
    read(f"/proc/{p.pid}/smaps_rollup")
    with open(f"/proc/{p.pid}/mem", "rb", buffering=0) as f:
        f.seek(AT + 30000 * PAGE)
        check(f.read(8) == struct.pack("<Q", p.want[30000]), "it is there")
    check(not p.increment("looked"), "somebody looked")
    step("w", 30000, True)
    del os.environ["CKPT_FAULT"]
    # Another ckpt is somebody who looks.
    box.ckpt = os.path.join(BUILD, "ckpt")
    step("w", 30001, False)
    step("W", 16003, False)

    box.end_tree(p.pid)
    for image, want in p.images:
        box.restore("--leave-stopped", image=image)
        # A kernel without guards has nothing there.
        got = first_words(p.pid)
        bad = [i for i in range(PAGES) if got[i] != want[i] and not (want[i] is None and got[i] == 0)]
        check(not bad, f"{image}: {len(bad)} pages, from {bad[:3]}: {[got[i] for i in bad[:3]]}, not {[want[i] for i in bad[:3]]}")
        box.end_tree(p.pid)
    if not told[-1]:
        check(p.tracker != "wp-async" or tuple(int(n) for n in os.uname().release.split(".")[:2]) < (6, 12), f"told: {told}")
        raise Skip("a kernel that tells of page faults (BPF at tracepoints)")
    if "T_TRACKER" not in os.environ:
        places(box)


main(body)
