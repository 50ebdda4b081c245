# SPDX-License-Identifier: GPL-2.0-only
# What this kernel's records tell of threads, connections and processes is what these say; and what they tell of mappings
# leaves no page out, whoever tracks them; in a series, also of a program that must be asked now and then.
for t in threads_seen files_seen sockopts_seen settings_seen; do
	tests/run --slow 15 -k flow/$t >/tmp/run.log 2>&1
	verdict "restore/$t" $? "$(tail -12 /tmp/run.log)"
	grep -q "^SKIP" /tmp/run.log && cat /tmp/run.log
done
for t in kmod soft-dirty wp-async; do
	for f in patchwork turns swapped; do
		T_STEPS=12 T_TRACKER=$t tests/run --slow 15 -k inc_$f >/tmp/run.log 2>&1
		verdict "increments/$f/$t" $? "$(tail -12 /tmp/run.log)"
		grep -E '^(SKIP|FAIL)' /tmp/run.log
	done
done
