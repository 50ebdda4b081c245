# SPDX-License-Identifier: GPL-2.0-only
# A thousand checkpoints of a program that does everything to its memory, by each tracker of the guest; samples and the last ten
# are restored and verify themselves. And no slab cache has grown with their number. (make check-vm-long)
insmod /lib/modules/ckpt.ko || echo "FAIL module: $(dmesg | tail -3)"
count=$(sed -n 's/.*vm_count=\([0-9]*\).*/\1/p' /proc/cmdline)
trackers=$(sed -n 's/.*vm_trackers=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')

# objects FILE: how many live in each cache, without what can be dropped
objects() {
	sync
	for i in 1 2 3; do
		echo 3 >/proc/sys/vm/drop_caches
		sleep 1
	done
	# What a processor keeps at hand counts as in use, and is not.
	for i in /sys/kernel/slab/*/shrink; do
		echo 1 >"$i"
	done
	# Nor is what vfree() has not given back yet, as it does so for many at once, nor the holes between.
	awk -v used="$(grep -vc unpurged /proc/vmallocinfo)" \
		'NR > 2 { print $1, $1 == "vmap_area" ? used : $2 }' /proc/slabinfo | sort >"$1"
}

for t in $trackers; do
	# What is made once is made now.
	T_LONG=20 T_TRACKER=$t tests/run --slow 40 -k inc_long >/tmp/run.log 2>&1
	objects /tmp/before
	began=$(cut -d. -f1 /proc/uptime)
	T_LONG=$count T_TRACKER=$t tests/run -v --slow 40 -k inc_long >/tmp/run.log 2>&1
	verdict "long/$t" $? "$(tail -12 /tmp/run.log)"
	grep -E '^(PASS|SKIP|FAIL)' /tmp/run.log
	echo "figure long/$t: $count checkpoints in $(($(cut -d. -f1 /proc/uptime) - began)) s of the guest"
	objects /tmp/after
	# One object for every second checkpoint is a leak; what caches keep for each processor is less.
	join /tmp/before /tmp/after 2>/dev/null >/tmp/both ||
		awk 'NR == FNR { was[$1] = $2; next } $1 in was { print $1, was[$1], $2 }' /tmp/before /tmp/after >/tmp/both
	awk -v most=$((count / 2 > 200 ? count / 2 : 200)) '$3 - $2 > most { print $1 ": " $2 " objects, then " $3 }' /tmp/both >/tmp/grown
	[ -s /tmp/both ] && [ ! -s /tmp/grown ]
	verdict "long/slab/$t" $? "$(cat /tmp/grown)"
	awk '{ s += $3 - $2 } END { print "figure slab objects more: " s }' /tmp/both
done
