# SPDX-License-Identifier: GPL-2.0-only
# What this kernel's records tell of threads, connections and processes is what these say; and what they tell of mappings
# leaves no page out, whoever tracks them.
for t in threads_seen sockopts_seen settings_seen; do
	tests/run --slow 15 -k flow/$t >/tmp/run.log 2>&1
	verdict "restore/$t" $? "$(tail -12 /tmp/run.log)"
	grep -q "^SKIP" /tmp/run.log && cat /tmp/run.log
done
for t in kmod soft-dirty wp-async; do
	T_TRACKER=$t tests/run --slow 15 -k inc_patchwork >/tmp/run.log 2>&1
	verdict "increments/patchwork/$t" $? "$(tail -12 /tmp/run.log)"
	grep -E '^(SKIP|FAIL)' /tmp/run.log
done
