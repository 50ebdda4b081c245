# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240
"""Each fuzzer runs for a moment from its corpus: no crash, no leak, no undefined behaviour."""
import glob
import os
import shutil

from sandbox import BUILD, ROOT, check, main


def body(box):
    fuzzers = [os.path.splitext(os.path.basename(p))[0] for p in glob.glob(os.path.join(ROOT, "tests/fuzz/*.c"))]
    check(fuzzers, "there are fuzzers")
    for name in sorted(fuzzers):
        corpus = os.path.join(ROOT, "tests/fuzz/corpus", name)
        check(os.listdir(corpus), f"{name} has a corpus")
        # A fuzzer may give up its rights.
        found = os.path.join(box.dir, name)
        os.mkdir(found)
        os.chmod(found, 0o777)
        # The tree may lie where nobody else can look.
        shutil.copytree(corpus, found + ".given")
        res = box.run([os.path.join(BUILD, "tests/fuzz", name), "-runs=3000", "-max_total_time=2", "-seed=1",
                       "-timeout=60", f"-artifact_prefix={found}/", found, found + ".given"], timeout=120)
        check(res.code == 0, f"{name}: {res}")


main(body)
