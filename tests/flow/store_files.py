# SPDX-License-Identifier: GPL-2.0-only
"""A mapped file that changed is refused at restore, by name; with --store-files its contents come from the
image, also when its directory is gone."""
import os
import shutil

from sandbox import BUILD, check, main


def body(box):
    prog = os.path.join(BUILD, "tests/kind/vma_stored")
    target = box.start(prog)
    target.wait_ready()
    plain, stored = box.image + "-plain", box.image + "-stored"
    box.dump(target, image=plain)
    box.dump(target, "--kill", "--store-files", image=stored)
    path = target.file("data/file")
    with open(path, "r+b") as f:
        f.write(b"changed")
    res = box.run_ckpt("restore", "-D", plain, "--detach")
    check(res.code == 3 and "E-FILE-CHANGED" in res.err and path in res.err, f"a changed file: {res}")
    shutil.rmtree(os.path.dirname(path))
    res = box.run_ckpt("restore", "-D", plain, "--detach")
    check(res.code == 3 and "E-FILE-CHANGED" in res.err and path in res.err, f"a missing file: {res}")
    box.restore(image=stored)
    target.finish()


main(body)
