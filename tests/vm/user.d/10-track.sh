# SPDX-License-Identifier: GPL-2.0-only
# Every tracker against everything a program does to its memory; with the module, and without.
insmod /lib/modules/ckpt.ko || echo "FAIL module: $(dmesg | tail -3)"
build/ckpt check
build/tests/unit/test_track >/tmp/track.log 2>&1
verdict "track/all" $? "$(tail -5 /tmp/track.log)"
grep -E 'OK|FAILED|not on' /tmp/track.log
build/tests/unit/test_vmaiter >/tmp/vmaiter.log 2>&1
verdict "track/flags" $? "$(tail -5 /tmp/vmaiter.log)"
grep 'no iterator' /tmp/vmaiter.log
