// SPDX-License-Identifier: GPL-2.0-only
#include "kern/procview.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"

/* Their argument: { struct bpf_iter_meta { seq, … } *, task * }, the last NULL at the end. */
#define ARG_TASK 8

#define VM_LOCKED 0x2000u
#define VM_LOCKONFAULT 0x80000u

/* The first part; the table of signal handlers follows. */
#define HEAD offsetof(struct proc_view, action)
#define VIEW(member) ((int)offsetof(struct proc_view, member) - (int)HEAD)
#define WORK (-(int)HEAD - 8)

/* Where the kernel keeps it. */
struct layout {
	uint32_t func;
	int mm, signal, sighand, cred, execs; /* of struct task_struct */
	int brk, def_flags, flags, seq;       /* of struct mm_struct; seq may be -1 */
	int subreaper, real, interval, cpu;   /* of struct signal_struct */
	int state, expires;                   /* of struct hrtimer, which real is */
	int securebits;
	int action; /* of struct sighand_struct */
};

static bool actions_known(const struct btf *b)
{
	uint32_t one = btf_struct(b, "k_sigaction"), sa = btf_struct(b, "sigaction");

	return btf_size(b, one) == sizeof(struct proc_view_action) && !btf_offset(b, one, "sa") &&
	       btf_offset(b, sa, "sa_handler") == offsetof(struct proc_view_action, handler) &&
	       btf_offset(b, sa, "sa_flags") == offsetof(struct proc_view_action, flags) &&
	       btf_offset(b, sa, "sa_restorer") == offsetof(struct proc_view_action, restorer) &&
	       btf_offset(b, sa, "sa_mask") == offsetof(struct proc_view_action, mask);
}

/* hrtimer.node.expires */
static int expires_offset(const struct btf *b, uint32_t timer)
{
	int node = btf_offset(b, timer, "node"),
	    expires = btf_offset(b, btf_struct(b, "timerqueue_node"), "expires");

	return node < 0 || expires < 0 ? -1 : node + expires;
}

static int layout_find(struct layout *ret, struct btf *b)
{
	uint32_t task, mm, signal, timer;
	int rc = btf_load(b);

	if (rc)
		return rc;
	task = btf_struct(b, "task_struct");
	mm = btf_struct(b, "mm_struct");
	signal = btf_struct(b, "signal_struct");
	timer = btf_struct(b, "hrtimer");
	*ret = (struct layout) {
		.func = btf_find(b, BTF_KIND_FUNC, "bpf_iter_task"),
		.mm = btf_offset(b, task, "mm"),
		.signal = btf_offset(b, task, "signal"),
		.sighand = btf_offset(b, task, "sighand"),
		.cred = btf_offset(b, task, "real_cred"),
		.execs = btf_offset(b, task, "self_exec_id"),
		.brk = btf_offset(b, mm, "brk"),
		.def_flags = btf_offset(b, mm, "def_flags"),
		.flags = btf_offset(b, mm, "flags"),
		.seq = btf_offset(b, mm, "mm_lock_seq"),
		.subreaper = btf_offset(b, signal, "is_child_subreaper"),
		.real = btf_offset(b, signal, "real_timer"),
		.interval = btf_offset(b, signal, "it_real_incr"),
		.cpu = btf_offset(b, signal, "it"),
		.state = btf_offset(b, timer, "state"),
		.expires = expires_offset(b, timer),
		.securebits = btf_offset(b, btf_struct(b, "cred"), "securebits"),
		.action = btf_offset(b, btf_struct(b, "sighand_struct"), "action"),
	};
	return !ret->func || ret->mm < 0 || ret->signal < 0 || ret->sighand < 0 || ret->cred < 0 ||
			       ret->execs < 0 || ret->brk < 0 || ret->def_flags < 0 ||
			       ret->flags < 0 || ret->subreaper < 0 || ret->real < 0 ||
			       ret->state < 0 || ret->expires < 0 || ret->interval < 0 ||
			       ret->cpu < 0 || ret->securebits < 0 || ret->action < 0 ||
			       !actions_known(b)
		       ? -EOPNOTSUPP
		       : 0;
}

static int program(const struct layout *l)
{
	struct bpf_program p = { 0 };

	/* r7: the task, r8: what it points to. */
	bpf_put_begin(&p, ARG_TASK);
	BPF_PUT(&p, FETCH(VIEW(execs), 8, 7, l->execs));
	BPF_PUT(&p, FETCH(VIEW(stamp.mm), 8, 7, l->mm), LOAD(8, 10, VIEW(stamp.mm)),
		FETCH(VIEW(stamp.seq), 4, 8, l->seq < 0 ? l->brk : l->seq),
		FETCH(VIEW(brk), 8, 8, l->brk), FETCH(VIEW(def_flags), 8, 8, l->def_flags),
		FETCH(VIEW(mm_flags), 8, 8, l->flags));
	BPF_PUT(&p, FETCH(WORK, 8, 7, l->cred), LOAD(8, 10, WORK),
		FETCH(VIEW(securebits), 4, 8, l->securebits));
	BPF_PUT(&p, FETCH(WORK, 8, 7, l->signal), LOAD(8, 10, WORK),
		FETCH(VIEW(subreaper), 1, 8, l->subreaper),
		FETCH(VIEW(real_timer), 1, 8, l->real + l->state),
		FETCH(VIEW(real_expires), 8, 8, l->real + l->expires),
		FETCH(VIEW(real_interval), 8, 8, l->interval),
		FETCH(VIEW(cpu_timers), sizeof(((struct proc_view *)0)->cpu_timers), 8, l->cpu),
		CALL(BPF_FUNC_ktime_get_ns), STORE(10, 0, VIEW(now)));
	bpf_put_write(&p, HEAD);
	BPF_PUT(&p, FETCH(WORK, 8, 7, l->sighand), LOAD(8, 10, WORK), ADD(8, l->action));
	bpf_put_copy(&p, 8, sizeof(((struct proc_view *)0)->action));
	bpf_put_leave(&p);
	return bpf_program_load(&p, "ckpt_process", l->func);
}

static int64_t usec(const struct timeval *t)
{
	return (int64_t)t->tv_sec * 1000000 + t->tv_usec;
}

/* Does it tell how much is left of a timer? */
static int check_timer(int prog_fd)
{
	const struct itimerval long_one = { { 7, 13 }, { 1000000, 0 } };
	struct itimerval own, first, told = { 0 }, last;
	struct proc_view v;
	int rc;

	if (setitimer(ITIMER_REAL, &long_one, &own))
		return -errno;
	(void)getitimer(ITIMER_REAL, &first);
	rc = proc_view_read(prog_fd, getpid(), &v);
	(void)getitimer(ITIMER_REAL, &last);
	(void)setitimer(ITIMER_REAL, &own, NULL);
	if (rc)
		return rc;
	proc_view_real(&v, &told);
	return usec(&told.it_value) <= usec(&first.it_value) &&
			       usec(&told.it_value) >= usec(&last.it_value) &&
			       usec(&told.it_interval) == usec(&long_one.it_interval)
		       ? 0
		       : -EOPNOTSUPP;
}

/* The heap of ckpt may grow and shrink meanwhile. */
#define CHECK_BRK 5

/* ckpt knows all that of itself. */
static int check(int prog_fd)
{
	struct proc_view v = { 0 };
	bool brk = false;
	int rc = 0;

	for (int i = 0; !rc && !brk && i < CHECK_BRK; i++) {
		uint64_t before = (uint64_t)syscall(SYS_brk, 0);

		rc = proc_view_read(prog_fd, getpid(), &v);
		brk = v.brk == before || v.brk == (uint64_t)syscall(SYS_brk, 0);
	}
	if (rc)
		return rc;
	if (!brk || v.securebits != (uint64_t)prctl(PR_GET_SECUREBITS))
		return -EOPNOTSUPP;
	for (int sig = 1; sig <= (int)PROC_VIEW_SIGNALS; sig++) {
		struct proc_view_action a = { 0 };

		if (syscall(SYS_rt_sigaction, sig, NULL, &a, 8) ||
		    memcmp(&a, &v.action[sig - 1], sizeof(a)))
			return -EOPNOTSUPP;
	}
	return check_timer(prog_fd);
}

int proc_view_open(struct btf *types)
{
	struct layout l;
	int fd, rc = layout_find(&l, types);

	if (rc || ckpt_fault("kern.process"))
		return rc ? rc : -EOPNOTSUPP;
	fd = program(&l);
	rc = fd < 0 ? fd : check(fd);
	if (rc && fd >= 0)
		(void)close(fd);
	return rc ? rc : fd;
}

int proc_view_read(int prog_fd, int pid, struct proc_view *ret)
{
	static const struct bpf_iter_records as = { .bytes = sizeof(*ret), .max = 1 };
	void *v = NULL;
	size_t n = 0;
	int rc = bpf_iter_read(prog_fd, BPF_ITER_THREAD, pid, &as, &v, &n);

	if (!rc)
		memcpy(ret, v, sizeof(*ret));
	free(v);
	return rc;
}

bool proc_view_plain(const struct proc_view *v)
{
	return !(v->def_flags & (VM_LOCKED | VM_LOCKONFAULT)) && !v->cpu_timers[0] &&
	       !v->cpu_timers[1] && !v->cpu_timers[2] && !v->cpu_timers[3];
}

static struct timeval of_ns(uint64_t ns)
{
	return (struct timeval) { (time_t)(ns / 1000000000u),
				  (suseconds_t)(ns % 1000000000u / 1000) };
}

void proc_view_real(const struct proc_view *v, struct itimerval *ret)
{
	/* One that runs has a microsecond left, or more: 0 would be one that does not. */
	uint64_t left = v->real_expires > v->now + 1000 ? v->real_expires - v->now : 1000;

	ret->it_interval = of_ns(v->real_interval);
	ret->it_value = of_ns(v->real_timer ? left : 0);
}
