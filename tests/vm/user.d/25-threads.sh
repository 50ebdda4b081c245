# SPDX-License-Identifier: GPL-2.0-only
# What this kernel's records tell of threads is what the threads say.
tests/run --slow 15 -k flow/threads_seen >/tmp/run.log 2>&1
verdict "restore/threads_seen" $? "$(tail -12 /tmp/run.log)"
grep -q "^SKIP" /tmp/run.log && cat /tmp/run.log
