# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=90
"""An image of a kernel with another vDSO: the program's calls reach this kernel's, twice in a row."""
import os

from sandbox import BUILD, alive, check, main, read


def body(box):
    for name in ("vma_vdso", "vma_cow"):
        target = box.start(os.path.join(BUILD, "tests/kind", name), subdir=name)
        target.wait_ready()
        for turn in range(2):
            image = f"{box.image}-{name}-{turn}"
            box.dump(target, "--kill", image=image)
            # The test program takes any vDSO for a foreign one at this point.
            res = box.run([os.path.join(BUILD, "ckpt-test"), "restore", "-D", image, "--detach"],
                          env=dict(os.environ, CKPT_FAULT="restore.vdso:fail"), name="restore")
            check(res.code == 0 and alive(target.pid), f"{res}")
            check("[vdso]" in read(f"/proc/{target.pid}/maps"), "this kernel's vDSO is there")
        if name == "vma_cow":
            target.finish()
        else:           # this one expects the name where the stubs are
            os.kill(target.pid, 15)
            box.wait_pid(target.pid, "end of the target")
            failures = read(target.file("failures")).splitlines()
            check(failures, "the old vDSO was taken for a foreign one")
            check(all("[vdso]" in f for f in failures), f"the clocks agree: {failures}")


main(body)
