# SPDX-License-Identifier: GPL-2.0-only
# A program and two increments of it leave this guest by its second serial line, for another kernel (../cross.sh).
# Eighteen of its pages are changed in between.
# within SECONDS COMMAND …
within() {
	tries=$(($1 * 5))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.2
	done
}

mkdir /tmp/cross
setsid build/tests/flow/flat /tmp/cross 2 </dev/null >/tmp/cross/log 2>&1 &
cross=$!
within 60 test -e /tmp/cross/ready
failed=$?
build/ckpt dump -t $cross -D /tmp/cross/0 --track || failed=1
for turn in 1 2; do
	for i in $(seq $((turn * 9 - 9)) $((turn * 9 - 1))); do
		printf 'g\022' | dd of=/proc/$cross/mem bs=1 seek=$((0x640000000000 + i * (512 / 18) * 4096)) conv=notrunc 2>/dev/null ||
			failed=1
	done
	build/ckpt dump -t $cross -D /tmp/cross/$turn --parent /tmp/cross/$((turn - 1)) || failed=1
done
kill -KILL $cross
stty -F /dev/ttyS1 raw && tar -C /tmp -czf - cross >/dev/ttyS1 || failed=1
verdict cross/save $failed "$(tail -5 /tmp/cross/log)"
