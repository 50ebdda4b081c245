# SPDX-License-Identifier: GPL-2.0-only
# Sourced by the guest of tests/vm/user: increments with the module against CRIU's (bench/guest).
insmod /lib/modules/ckpt.ko || echo "FAIL module: $(dmesg | tail -3)"
# One write makes all of a huge page dirty for CRIU; the module splits them.
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
# What CRIU wants to find, and a migration.
for m in crc32c_generic libcrc32c nfnetlink nf_tables inet_diag tcp_diag; do
	insmod build/vm/kernels/*/root/lib/modules/*/kernel/*/$m.ko 2>/dev/null ||
		insmod build/vm/kernels/*/root/lib/modules/*/kernel/net/*/$m.ko
done
# shellcheck disable=SC2046
/usr/bin/unshare --pid --fork --kill-child=KILL --mount-proc --mount /usr/bin/python3 -B bench/inguest.py \
	$(sed -n 's/.*inguest=\([0-9]*\),\([0-9]*\).*/\1 \2/p' /proc/cmdline) >/tmp/bench.json 2>/tmp/bench.log
verdict bench/inguest $? "$(tail -12 /tmp/bench.log)"
cat /tmp/bench.json >/dev/ttyS1
