# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""Each fuzzer runs for a few seconds from its corpus: no crash, no leak, no undefined behaviour."""
import glob
import os

from sandbox import ROOT, check, main


def body(box):
    fuzzers = [os.path.splitext(os.path.basename(p))[0] for p in glob.glob(os.path.join(ROOT, "tests/fuzz/*.c"))]
    check(fuzzers, "there are fuzzers")
    for name in sorted(fuzzers):
        found = os.path.join(box.dir, name)
        os.mkdir(found)
        res = box.run([os.path.join(ROOT, "build/tests/fuzz", name), "-runs=20000", "-max_total_time=8", "-seed=1",
                       f"-artifact_prefix={box.dir}/", found, os.path.join(ROOT, "tests/fuzz/corpus", name)],
                      timeout=90)
        check(res.code == 0, f"{name}: {res}")


main(body)
