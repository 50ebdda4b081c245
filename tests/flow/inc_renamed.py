# SPDX-License-Identifier: GPL-2.0-only
"""The mappings of a program that changes none of them are not read again in a series. What files are called is not theirs to
say: renamed, replaced, linked and removed files are found, or saved, by what they are called now."""
import os
import signal

from held import SETTLED, HeldSeries
from sandbox import BUILD, Skip, check, main, read


def rename(d):
    os.rename(f"{d}/dir/shared", f"{d}/dir/other")
    return f"{d}/dir/other"


def replace(d):
    os.rename(f"{d}/dir/shared", f"{d}/dir/other")
    with open(f"{d}/dir/shared", "wb") as f:
        f.write(bytes(8192))
    return f"{d}/dir/other"


def rename_folder(d):
    os.rename(f"{d}/dir", f"{d}/moved")
    return f"{d}/moved/shared"


def link(d):
    os.link(f"{d}/dir/shared", f"{d}/dir/second")
    os.unlink(f"{d}/dir/shared")
    return f"{d}/dir/second"


def remove(d):
    os.unlink(f"{d}/dir/shared")
    os.unlink(f"{d}/dir/private")


def back(d):
    os.unlink(f"{d}/dir/private")
    os.rename(f"{d}/dir/shared", f"{d}/dir/gone")
    os.rename(f"{d}/dir/gone", f"{d}/dir/shared")
    return f"{d}/dir/shared"


def one(box, change):
    target = box.start(os.path.join(BUILD, "tests/flow/renamed"), subdir=change.__name__).wait_ready()
    series = HeldSeries(box, target, os.path.join(box.dir, f"series-{change.__name__}"))
    if not any([series.step() for _ in range(6)]) or SETTLED not in read(series.log):
        raise Skip("a kernel whose records tell whether mappings were changed (CONFIG_PER_VMA_LOCK)")
    before = read(series.log).count(SETTLED)
    where = change(target.dir)
    check(series.step(), "it is left alone")
    check(read(series.log).count(SETTLED) > before, "its mappings were not read")
    image = series.image()
    series.end()
    os.kill(target.pid, signal.SIGKILL)
    box.wait_pid(target.pid, "end of the program")
    box.status.pop(target.pid, None)
    box.restore(image=image)
    target.finish()
    if where:
        with open(where, "rb") as f:
            check(int.from_bytes(f.read(8), "little") == 4711, f"{change.__name__}: {where} is not what it has mapped")
    box.status.pop(target.pid, None)


def body(box):
    for change in (rename, replace, rename_folder, link, remove, back):
        one(box, change)


main(body)
