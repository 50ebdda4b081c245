# SPDX-License-Identifier: GPL-2.0-only
# What a guest with another kernel has sent (user.d/40-cross.sh) is restored from its second increment, and verifies itself.
tar -C /tmp -xzf /in
for n in 0 1 2; do
	build/ckpt verify -D /tmp/cross/$n
	verdict cross/verify/$n $? "$(ls -l /tmp/cross)"
done
build/ckpt restore -D /tmp/cross/2 --pidns --detach --pidfile /tmp/cross.pid && kill -TERM "$(cat /tmp/cross.pid)"
tries=300
until [ -e /tmp/cross/result ] || [ $tries = 0 ]; do
	tries=$((tries - 1))
	sleep 0.2
done
grep -q pass /tmp/cross/result
verdict cross/restore $? "$(cat /tmp/cross/result /tmp/cross/failures /tmp/cross/log 2>&1 | tail -5)"
