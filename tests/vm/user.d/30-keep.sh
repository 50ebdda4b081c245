# SPDX-License-Identifier: GPL-2.0-only
# Increments whose pages the module keeps while the program goes on writing.
tests/run --slow 15 -k flow/inc_busy >/tmp/run.log 2>&1 && grep -q '^1 passed' /tmp/run.log
verdict "flow/inc_busy" $? "$(tail -12 /tmp/run.log)"
# And where the module may keep less than they need: they are copied while it stands still.
pool=/sys/kernel/ckpt/cow_pool_pages
was=$(cat $pool)
echo 256 >$pool
tests/run --slow 15 -k flow/inc_busy >/tmp/run.log 2>&1 && grep -q '^1 passed' /tmp/run.log
verdict "flow/inc_busy/small-pool" $? "$(tail -12 /tmp/run.log)"
echo "$was" >$pool
