# SPDX-License-Identifier: GPL-2.0-only
# ckpt track start, status and stop with the module, whose sysfs must agree (10-track.sh loaded it).
setsid sleep 1000 </dev/null >/dev/null 2>&1 &
target=$!
sessions() { ls /sys/kernel/ckpt/sessions | wc -l; }
track() { build/ckpt track "$@" -t $target >/tmp/track.log 2>&1; }

before=$(sessions)
track start --tracker kmod && [ "$(sessions)" = $((before + 1)) ]
verdict session/start $? "$before sessions, then $(sessions): $(cat /tmp/track.log)"
track status && grep -q kmod /tmp/track.log
verdict session/status $? "$(cat /tmp/track.log)"
track start --tracker kmod
[ $? = 3 ]
verdict session/twice $? "a second session is refused: $(cat /tmp/track.log)"
build/ckpt dump -t $target -D /tmp/session.0 --parent /tmp/nowhere >/tmp/track.log 2>&1
[ $? = 3 ] && [ "$(sessions)" = $((before + 1)) ]
verdict session/refused-dump $? "a refused dump leaves the session: $(cat /tmp/track.log)"
track stop && [ "$(sessions)" = "$before" ]
verdict session/stop $? "$(sessions) sessions: $(cat /tmp/track.log)"
track status
[ $? = 3 ]
verdict session/none $? "no session to tell of: $(cat /tmp/track.log)"
kill $target
