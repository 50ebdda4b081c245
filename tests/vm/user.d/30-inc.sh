# SPDX-License-Identifier: GPL-2.0-only
# Increments end to end by every tracker this kernel has, the module's among them (10-track.sh loaded it): a series of
# checkpoints of a program that does everything to its memory; samples and the last ones verify themselves.
for t in kmod soft-dirty wp-async; do
	T_LONG=12 T_TRACKER=$t tests/run --slow 15 -k inc_long >/tmp/run.log 2>&1
	verdict "increments/$t" $? "$(tail -12 /tmp/run.log)"
	grep -E '^(PASS|SKIP|FAIL)' /tmp/run.log
done
for t in kmod wp-async; do
	T_SIZES=16,128 T_TRACKER=$t tests/run --slow 15 -k inc_flat >/tmp/run.log 2>&1
	verdict "increments/flat/$t" $? "$(tail -12 /tmp/run.log)"
done
tests/run --slow 15 -k inc_pre >/tmp/run.log 2>&1
verdict increments/pre $? "$(tail -12 /tmp/run.log)"
tests/run --slow 15 -k inc_shared >/tmp/run.log 2>&1
verdict increments/shared $? "$(tail -12 /tmp/run.log)"
for t in kmod wp-async; do
	[ $t = wp-async ] && ! build/ckpt check --json | grep -A1 '"pagemap_scan"' | grep -q true && continue
	T_TRACKER=$t tests/run --slow 15 -k inc_watched >/tmp/run.log 2>&1
	verdict "increments/watched/$t" $? "$(tail -12 /tmp/run.log)"
	[ $t = wp-async ] || continue
	# A log of page faults, which the module does not need.
	for f in flow/inc_logged unit/test_faultlog; do
		T_TRACKER=$t tests/run --slow 15 -k $f >/tmp/run.log 2>&1
		verdict "increments/$f" $? "$(tail -12 /tmp/run.log)"
		grep -E '^(SKIP|FAIL)' /tmp/run.log
	done
done
