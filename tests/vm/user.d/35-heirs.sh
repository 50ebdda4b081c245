# SPDX-License-Identifier: GPL-2.0-only
# A tree of processes that share memory since a fork moves, by every tracker that asks a program that runs.
for m in inet_diag tcp_diag udp_diag unix_diag netlink_diag; do
	[ ! -e /lib/modules/$m.ko ] || insmod /lib/modules/$m.ko || echo "FAIL module $m: $(dmesg | tail -1)"
done
for t in kmod wp-async; do
	T_MIB=8 T_TRACKER=$t tests/run --slow 15 -k mig_heirs >/tmp/run.log 2>&1
	verdict "migrate/heirs/$t" $? "$(tail -12 /tmp/run.log)"
	grep -E '^(PASS|SKIP|FAIL)' /tmp/run.log
done
