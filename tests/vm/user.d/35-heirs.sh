# SPDX-License-Identifier: GPL-2.0-only
# A tree of processes that share memory since a fork moves, by every tracker this kernel has.
for t in kmod soft-dirty wp-async; do
	T_MIB=8 T_TRACKER=$t tests/run --slow 15 -k mig_heirs >/tmp/run.log 2>&1
	verdict "migrate/heirs/$t" $? "$(tail -12 /tmp/run.log)"
	grep -E '^(PASS|SKIP|FAIL)' /tmp/run.log
done
