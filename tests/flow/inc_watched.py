# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=150
"""Shared anonymous memory in increments, of which nobody reads all: what is written by any process that has it is
saved, in whatever way, and where it is not certain that the trackers saw all, the contents are compared. Each increment
is restored and looked through. T_TRACKER says by which back end."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from sandbox import BUILD, check, main  # noqa: E402
from watched import AT, OWN, PAGE, PAGES, Watched, can_tell, children, first_words, word, words  # noqa: E402


class Series(Watched):
    """The increments that are made of it."""

    def __init__(self, box, name):
        super().__init__(box, name)
        self.images, self.stats = [], None
        self.can = True     # this kernel and tracker tell, as far as one knows

    def increment(self, name, told, *options, most=100):
        """@told: whether trackers tell of it all; None: that does not matter."""
        image = os.path.join(self.box.dir, f"{self.name}-{len(self.images):02}-{name}")
        tracker = os.environ.get("T_TRACKER")
        how = ["--parent", self.images[-1]] if self.images else ["--track", *(("--tracker", tracker) if tracker else ())]
        res = self.box.dump(self.target, *how, "--json", "-v", "-v", *options, image=image)
        check("full checkpoint" not in res.err, f"{res}")
        tells = "trackers tell what was written" in res.err
        check(told is None or tells == (told and self.can), f"{name}: trackers tell: {tells}")
        self.stats = json.loads(res.out)["stats"]
        check(not self.images or self.stats["pages_written"] <= most, f"{name}: {self.stats}")
        self.images.append(image)
        return tells

    def learn(self, tells):
        """Kernels and trackers that cannot tell compare all of it, and must be as right."""
        self.can = tells
        check(tells or not can_tell(self.stats["tracker"]), "this kernel can tell, and was not asked")


def body(box):
    tricks(box)
    ahead(box)
    holes(box)


def tricks(box):
    s = Series(box, "tricks")
    parent, child, do, want, steps = s.parent, s.child, s.do, s.want, []

    def increment(name, told, most=100):
        s.increment(name, told, most=most)
        check(first_words(parent) == want, f"{name}: the program itself")
        steps.append((s.images[-1], list(want), [parent, *children(parent)]))

    increment("full", None)
    s.learn(s.increment("idle", None))
    do(parent, "w", 5)
    do(child, "w", 6)
    do(child, "w", PAGES - 1)
    increment("write", True)
    do(child, "r", PAGES - 3)
    word(parent, AT + 20 * PAGE, 4711)
    want[20] = 4711
    do(child, "v", 15)
    do(parent, "i", 16)
    increment("by-the-kernel", True)
    box.ckpt, plain = os.path.join(BUILD, "ckpt-test"), box.ckpt
    os.environ["CKPT_FAULT"] = "kern.mmwatch:fail"
    increment("not-seen", False)
    del os.environ["CKPT_FAULT"]
    box.ckpt = plain
    increment("idle", False)
    increment("idle", True)
    # Whoever may have written and is gone.
    for what, pid, page in (("f", parent, 9), ("f", child, 10), ("x", parent, 11), ("x", child, 12), ("m", child, 14),
                            ("p", parent, 17)):
        do(pid, what, page)
        increment(f"gone-{what}", False)
        increment("idle", True)
    do(parent, "w", 30)
    do(parent, "d", 30)
    increment("drop-written", False)
    do(child, "d", 31)
    increment("drop", False)
    increment("idle", True)
    # A hole, and a page that was one.
    do(parent, "R", 40)
    increment("hole", False)
    do(child, "R", 41)
    do(parent, "r", 41)
    do(child, "r", 41)
    increment("hole-read", False)
    increment("idle", True)
    do(parent, "r", 40)
    do(parent, "w", 41)
    increment("hole-later", True)
    do(child, "O", 45)
    increment("opened", False)
    do(child, "w", 46)
    increment("open", False)
    do(child, "C")
    increment("closed", False)
    increment("idle", True)
    # A process more, and one less.
    do(parent, "c")
    third = word(parent, OWN + 16)
    increment("child", False, 300)
    do(third, "w", 50)
    increment("its-write", True)
    do(third, "w", 51)
    do(parent, "k")
    increment("it-ended", False)
    increment("idle", True)
    # One outside the tree.
    do(child, "o")
    orphan = next(p for p in children(os.getpid()) if p != parent and open(f"/proc/{p}/comm").read() == "watched\n")
    increment("orphan", False)
    do(orphan, "w", 60)
    increment("its-write", False)
    do(orphan, "w", 61)
    os.kill(orphan, 9)
    box.wait_pid(orphan, "end of the orphan")
    increment("it-ended", False)
    do(child, "w", 62)
    increment("none-outside", True)

    box.end_tree(parent)
    for image, held, members in steps:
        check(box.run_ckpt("verify", "-D", image).code == 0, f"verify of {image}")
        box.restore(image=image)
        for p in members:
            got = first_words(p)
            bad = [i for i in range(PAGES) if got[i] != held[i]]
            check(not bad, f"{image}: process {p}: page {bad[:3]}: {[got[i] for i in bad[:3]]}, "
                  f"not {[held[i] for i in bad[:3]]}")
        # It is alive, and memory is shared.
        want[:] = held
        do(members[-1], "w", 1)
        check(all(word(p, AT + PAGE) == s.value for p in members), f"{image}: shared")
        box.end_tree(parent)


def last_writes(turns, digs=False):
    """What the first @turns writes of a loop leave on each page."""
    left = [0] * PAGES
    for n in range(1, turns + 1):
        left[64 + n * 2654435761 % (1 << 32) % (PAGES - 64)] = 0 if digs and n % 2 else n
    return left


def holes(box):
    """Every second write is a hole, at any moment of a checkpoint."""
    s = Series(box, "holes")
    s.do(s.child, "D", 2)
    s.increment("full", None, "--pre")
    for n in range(6):
        s.increment("again", None, *(["--pre"] if n % 2 else []), most=3 * PAGES)
    s.do(s.child, "r", 0)
    s.increment("rest", None, most=2 * PAGES)
    members = [s.parent, s.child]
    box.end_tree(s.parent)
    for image in s.images:
        box.restore("--leave-stopped", image=image)
        turn = word(members[1], OWN + 24)
        got, least, most = words(members[0], 2), last_writes(turn - 1, True), last_writes(turn, True)
        bad = [i for i in range(PAGES) if got[i] not in (least[i], most[i])]
        check(not bad, f"{image}: turn {turn}: page {bad[:3]}: {[got[i] for i in bad[:3]]}, not {[most[i] for i in bad[:3]]}")
        box.end_tree(s.parent)


def ahead(box):
    """Copied while the two write on and on."""
    s = Series(box, "ahead")
    for word_nr, pid in ((1, s.parent), (2, s.child)):
        s.do(pid, "L", word_nr)
    copied = 0
    s.increment("full", None, "--pre")
    s.learn(s.increment("next", None, most=2 * PAGES))
    for n in range(6):
        s.increment("again", True, *(["--pre"] if n % 3 == 2 else []), most=3 * PAGES)
        copied += s.stats["pages_pre"]
    check(copied > 100 or not s.can, f"{copied} pages were copied ahead")
    for pid in (s.parent, s.child):
        s.do(pid, "r", 0)     # enough
    s.increment("rest", None, most=2 * PAGES)
    # So many at once that they are copied before the stop.
    for n in range(3):
        s.do(s.child, "W", n * 100)
        s.increment("much", True, most=3 * PAGES)
        if s.stats["pages_pre"] >= PAGES // 2:
            break
    check(not s.can or s.stats["pages_pre"] >= PAGES // 2, f"not ahead: {s.stats}")
    s.do(s.parent, "f", 7)
    s.increment("forked", False)

    members = [s.parent, s.child]
    box.end_tree(s.parent)
    for image in s.images:
        check(box.run_ckpt("verify", "-D", image).code == 0, f"verify of {image}")
        box.restore("--leave-stopped", image=image)
        for word_nr, pid in zip((1, 2), members):
            turn = word(pid, OWN + 24)
            got, least, most = words(members[-1], word_nr), last_writes(turn - 1), last_writes(turn)
            bad = [i for i in range(PAGES) if got[i] not in (least[i], most[i])]
            check(not bad, f"{image}: word {word_nr}, turn {turn}: page {bad[:3]}: {[got[i] for i in bad[:3]]}, "
                  f"not {[most[i] for i in bad[:3]]}")
        if "much" in image or "forked" in image:
            check("forked" not in image or words(s.child, 0) == s.want, f"{image}: first words")
        box.end_tree(s.parent)


main(body)
