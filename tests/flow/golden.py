# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Images of every format there ever was (tests/images/vN.tar.xz) are shown, verified and restored; images of a
format or with features that this ckpt does not know are refused."""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import BUILD, ROOT, check, main, read  # noqa: E402

WHERE, PID = "/mnt/golden", 4242
RESEAL = os.path.join(BUILD, "tests/flow/reseal")


def restored(box, name):
    """A CPU that lacks something may be named; anything else must work."""
    image = f"{WHERE}/{name}"
    res = box.run_ckpt("show", "-D", image)
    check(res.code == 0 and str(PID) in res.out, f"{name}: {res}")
    res = box.run_ckpt("verify", "-D", image)
    check(res.code == 0, f"{name}: {res}")
    # What the program wrote since is not part of the image.
    with open(f"{WHERE}/out", "w") as f:
        f.write("ready\n" if name != "increment" else "ready\nround\n")
    res = box.run_ckpt("restore", "-D", image, "--detach")
    if res.code and "E-CPU" in res.err:
        box.log(f"{name} is not for this CPU")
        return
    check(res.code == 0, f"{name}: {res}")
    os.kill(PID, signal.SIGTERM)
    status = box.wait_pid(PID, f"{name}: end of the program", 30)
    check(status == 0 and read(f"{WHERE}/out").endswith("pass\n"), f"{name}: {status:#x} {read(f'{WHERE}/out')}")


def patched(path, old, new):
    with open(path, "rb") as f:
        data = f.read()
    check(old in data, f"{old} is in {path}")
    with open(path, "wb") as f:
        f.write(data.replace(old, new, 1))


def refused(box, image, change, text):
    copy = os.path.join(box.dir, "copy")
    shutil.copytree(image, copy)
    change(copy + "/inventory")
    check(box.run([RESEAL, copy, copy + "/records"]).code == 0, "reseal")
    for command in (("show",), ("verify",), ("restore", "--detach")):
        res = box.run_ckpt(*command, "-D", copy)
        check(res.code == 3 and "E-IMAGE-VERSION" in res.err and text in res.err, f"{text}: {res}")
    shutil.rmtree(copy)


def body(box):
    archives = sorted(glob.glob(os.path.join(ROOT, "tests/images/v*.tar.xz")))
    check(archives, "there are golden images")
    versions = [int(re.search(r"v(\d+)\.tar", a).group(1)) for a in archives]
    text = read(os.path.join(ROOT, "tools/image/format.h"))
    now = int(re.search(r"#define CKPT_IMAGE_FORMAT (\d+)", text).group(1))
    check(now in versions, f"format {now} has golden images: tests/images/make-golden {now}")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"], check=True)
    for archive, version in zip(archives, versions):
        os.mkdir(WHERE)
        subprocess.run(["tar", "-C", WHERE, "-xJf", archive], check=True)
        for name in sorted(os.listdir(WHERE)):
            if os.path.isdir(f"{WHERE}/{name}"):
                restored(box, name)
        if version == now:
            image = f"{WHERE}/full"
            # Inventory.format is the first field of the message.
            field = bytes([0x08, now])
            for other in (now - 1, now + 1):
                refused(box, image, lambda p, to=other: patched(p, field, bytes([0x08, to])), f"format {other}")
            refused(box, image, lambda p: patched(p, b"x86_64", b"x86_65"), "x86_65")
            # A required feature that nobody knows.
            refused(box, f"{WHERE}/zstd", lambda p: patched(p, b"packed", b"picked"), "picked")
        shutil.rmtree(WHERE)


main(body)
