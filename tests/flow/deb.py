# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120 needs=tool:dpkg-deb,tool:dpkg-shlibdeps
"""The Debian packages are made, hold what they should, and the program in them works from where it was unpacked;
lintian has nothing to say where it is installed."""
import glob
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import BUILD, ROOT, check, main, read  # noqa: E402

# The address is that of whoever makes the packages.
NOT_OURS = "bogus-mail-host,bogus-mail-host-in-debian-changelog"


def body(box):
    copy = os.path.join(box.dir, "src")
    os.mkdir(copy)
    for name in ("Makefile", "README.md", "CHANGELOG.md", "SECURITY.md", "docs", "packaging", "scripts", "kmod", "include", "tools", "proto"):
        path = os.path.join(ROOT, name)
        (shutil.copytree if os.path.isdir(path) else shutil.copy2)(path, os.path.join(copy, name))
    os.mkdir(copy + "/build")
    shutil.copy2(os.path.join(BUILD, "ckpt"), copy + "/build/ckpt")
    # Built already: only packed here.
    text = read(copy + "/Makefile")
    with open(copy + "/Makefile", "w") as f:
        f.write(text.replace("install: $(B)/ckpt", "install:"))
    version = re.search(r"^VERSION := (\S+)", text, re.M).group(1)
    res = box.run([copy + "/scripts/deb", version], cwd=copy, env=dict(os.environ, SOURCE_DATE_EPOCH="1700000000"), timeout=90)
    check(res.code == 0, f"{res}")
    debs = sorted(glob.glob(copy + "/build/deb/*.deb"))
    check(len(debs) == 2, f"two packages: {debs}")
    for deb in debs:
        name = os.path.basename(deb).split("_")[0]
        root = os.path.join(box.dir, f"root-{name}")
        check(box.run(["dpkg-deb", "-x", deb, root]).code == 0, f"{deb} unpacks")
        control = box.run(["dpkg-deb", "-f", deb]).out
        check(f"Version: {version}\n" in control and "Depends: " in control, f"{deb}: {control}")
    root = os.path.join(box.dir, "root-ckpt")
    check("libc6" in box.run(["dpkg-deb", "-f", debs[1] if "dkms" in debs[0] else debs[0], "Depends"]).out, "it needs libc6")
    pages = [os.path.basename(p) for p in glob.glob(root + "/usr/share/man/man*/*")]
    for page in os.listdir(os.path.join(ROOT, "docs/man")):
        check(page + ".gz" in pages, f"{page} is in the package: {pages}")
    source = os.path.join(box.dir, "root-ckpt-dkms/usr/src", f"ckpt-{version}")
    for name in ("dkms.conf", "kmod/Kbuild", "kmod/main.c", "include/uapi/linux/ckpt.h"):
        check(os.path.exists(os.path.join(source, name)), f"the module's source has {name}: {os.listdir(source)}")
    # The installed program is the one that works.
    box.ckpt = root + "/usr/sbin/ckpt"
    check(version in box.run_ckpt("--version").out, "its version")
    target = box.start(os.path.join(BUILD, "tests/kind/task_simple")).wait_ready()
    box.dump(target, "--kill")
    box.restore()
    target.finish()
    if shutil.which("lintian"):
        res = box.run(["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", NOT_OURS, *debs], timeout=90)
        check(res.code == 0, f"lintian: {res}")


main(body)
