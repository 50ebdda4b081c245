# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""A large page file lies in stripes in several files, which hold no byte twice. It takes part in chains and can be folded
and packed; none of its files can be changed, cut, lengthened or missed unseen; and who throws a checkpoint away, throws
away all of them."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import BUILD, check, main  # noqa: E402
from series import complete  # noqa: E402

PROGRAM = os.path.join(BUILD, "tests/kind/vma_striped")
DATA = (22 - 22 / 34 + 11 + 11) * 2**20     # private memory with its holes, shared, a file
RESEAL = os.path.join(BUILD, "tests/flow/reseal")


def page_files(image):
    return sorted(n for n in os.listdir(image) if n.startswith("pages"))


def refused(box, image, error, text):
    for command in ("verify",), ("restore", "--detach"):
        res = box.run_ckpt(*command, "-D", image)
        check(res.code == 3 and error in res.err and text in res.err, f"{text}: {res}")


def damage(box, image):
    """Each file but the first, of which flow/image_damage speaks."""
    copy = os.path.join(box.dir, "copy")
    for name in page_files(image)[1:]:
        for what, change in (("is missing", os.unlink),
                             ("has another size", lambda p: os.truncate(p, os.stat(p).st_size - 4096)),
                             ("has another size", lambda p: os.truncate(p, os.stat(p).st_size + 4096))):
            shutil.copytree(image, copy)
            change(os.path.join(copy, name))
            refused(box, copy, "E-IMAGE-CORRUPT", f'"{name}" {what}')
            shutil.rmtree(copy)
        shutil.copytree(image, copy)
        with open(os.path.join(copy, name), "r+b") as f:
            byte = f.read(1)[0]
            f.seek(0)
            f.write(bytes([byte ^ 1]))
        res = box.run_ckpt("verify", "-D", copy)
        check(res.code == 3 and "E-IMAGE-CORRUPT" in res.err and f"{name}, bytes 0 to 262143" in res.err, f"a flipped bit of {name}: {res}")
        shutil.rmtree(copy)


def impossible(box, image):
    """Inventories whose sums are right and that say what cannot be."""
    stripes = len(page_files(image))
    field = bytes([24 << 3 & 0x7f | 0x80, 24 << 3 >> 7])
    for old, new, error, text in ((field + bytes([stripes]), field + b"\0", "E-IMAGE-CORRUPT", "impossible"),
                                  (field + bytes([stripes]), field + b"\x09", "E-IMAGE-CORRUPT", "impossible"),
                                  (b"striped", b"strived", "E-IMAGE-VERSION", '"strived"')):
        copy = os.path.join(box.dir, "copy")
        shutil.copytree(image, copy)
        path = os.path.join(copy, "inventory")
        with open(path, "rb") as f:
            data = f.read()
        check(old in data, f"{old} is in the inventory")
        with open(path, "wb") as f:
            f.write(data.replace(old, new, 1))
        check(box.run([RESEAL, copy, copy + "/records"]).code == 0, "reseal")
        refused(box, copy, error, text)
        shutil.rmtree(copy)


def same(box, a, b):
    res = box.run_ckpt("diff", a, b, "--json")
    check(res.code == 0, f"diff: {res}")
    pages = json.loads(res.out)["pages"]
    check(not any(v for k, v in pages.items() if k not in ("same", "equal")), f"{a} and {b} differ: {pages}")


def disk_full(box, target):
    disk = os.path.join(box.dir, "disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=15m", "tmpfs", disk], check=True)
    res = box.run_ckpt("dump", "-t", target.pid, "-D", f"{disk}/image")
    check(res.code == 1 and "E-IMAGE-WRITE" in res.err, f"a full disk: {res}")
    check(os.listdir(disk) == [], f"a full disk leaves {os.listdir(disk)}")
    subprocess.run(["umount", disk], check=True)


def body(box):
    target = box.start(PROGRAM).wait_ready()
    full, inc = os.path.join(box.dir, "full"), os.path.join(box.dir, "inc")
    box.dump(target, "--track", image=full)
    files = page_files(full)
    check(len(files) == min(os.cpu_count(), 8) > 1, f"{files} of {os.cpu_count()} processors")
    sizes = [os.stat(os.path.join(full, n)) for n in files]
    held, long = sum(s.st_blocks * 512 for s in sizes), sum(s.st_size for s in sizes)
    check(DATA < held < DATA * 1.1 and long < DATA * 1.15, f"{held} bytes in {long} of {DATA} bytes of memory")
    check(max(s.st_size for s in sizes) - min(s.st_size for s in sizes) <= 16 << 20, f"they share: {sizes}")
    disk_full(box, target)
    damage(box, full)
    impossible(box, full)
    box.dump(target, "--parent", full, image=inc)
    check(page_files(inc) == ["pages"], f"what changed is little: {page_files(inc)}")
    for name, args in (("plain", ()), ("zstd", ("--compress", "zstd"))):
        out = os.path.join(box.dir, name)
        res = box.run_ckpt("merge", "-D", inc, "-o", out, *args)
        check(res.code == 0, f"merge: {res}")
        check(page_files(out) == (["pages"] if args else files), f"{name} has {page_files(out)}")
        check(box.run_ckpt("verify", "-D", out).code == 0, f"{name} is whole")
        same(box, inc, out)
    series = os.path.join(box.dir, "series")
    res = box.run_ckpt("dump", "-t", target.pid, "-D", series, "--every", "1ms", "--keep", 1, "--count", 5)
    check(res.code == 0, f"a series: {res}")
    check(sorted(n for n in os.listdir(series) if n.isdigit()) == [f"{n:06d}" for n in complete(series)],
          f"all that was thrown away is gone: {os.listdir(series)}")
    os.kill(target.pid, 9)
    box.wait_pid(target.pid, "the target is gone")
    for image in "plain", "zstd", "inc":
        box.status.pop(target.pid, None)
        if image != "inc":
            box.restore(image=os.path.join(box.dir, image))
            box.end_tree(target.pid)
            box.status.pop(target.pid, None)
    box.restore(image=inc)
    target.finish()


main(body)
