// SPDX-License-Identifier: GPL-2.0-only
/*
 * Credentials: ids, groups, the five capability sets, securebits and
 * no_new_privs, of each thread for itself. Nothing is restored that ckpt itself
 * could not assume: a set that is larger than ckpt's own refuses.
 */
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kind/task/kinds.h"
#include "task_creds.pb-c.h"

#define GROUPS_MAX 65536u

static int creds_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
		     uint64_t *priv, struct ckpt_err *err)
{
	(void)d;
	(void)f;
	(void)err;
	priv[0] = steps_call(s, "PR_GET_SECUREBITS", SYS_prctl, PR_GET_SECUREBITS);
	return 0;
}

/* The ids and capabilities are one object, which threads share until one of them changes its own.
 */
static bool creds_alike(const struct thread_view *a, const struct thread_view *b)
{
	return a->cred == b->cred && a->atomic_flags == b->atomic_flags;
}

/* All numbers behind @key into a repeated field. */
static int numbers(const char *status, const char *key, size_t *ret_n, uint32_t **ret)
{
	const char *p = proc_field(status, key);
	size_t n = 0;
	uint32_t *v;

	if (!p)
		return -ENODATA;
	v = malloc(sizeof(*v) * (strcspn(p, "\n") / 2 + 1));
	if (!v)
		return -ENOMEM;
	for (;;) {
		p += strspn(p, " \t");
		if (*p < '0' || *p > '9')
			break;
		v[n++] = (uint32_t)strtoul(p, (char **)&p, 10);
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

static int creds_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		      const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		      struct ckpt_err *err)
{
	Ckpt__TaskCreds *m = msg;
	uint64_t nnp = 0;
	int rc;

	(void)d;
	if ((rc = numbers(f->status, "Uid", &m->n_uid, &m->uid)) ||
	    (rc = numbers(f->status, "Gid", &m->n_gid, &m->gid)) ||
	    (rc = numbers(f->status, "Groups", &m->n_groups, &m->groups)))
		return ckpt_fail_errno(err, E_KERNEL, rc, "ids of thread %d", f->thread->tid);
	if (m->n_uid != 4 || m->n_gid != 4 ||
	    !proc_field_num(f->status, "CapInh", 0, 16, &m->inheritable) ||
	    !proc_field_num(f->status, "CapPrm", 0, 16, &m->permitted) ||
	    !proc_field_num(f->status, "CapEff", 0, 16, &m->effective) ||
	    !proc_field_num(f->status, "CapBnd", 0, 16, &m->bounding) ||
	    !proc_field_num(f->status, "CapAmb", 0, 16, &m->ambient) ||
	    !proc_field_num(f->status, "NoNewPrivs", 0, 10, &nnp))
		return ckpt_fail(err, E_KERNEL, -ENODATA, "capabilities of thread %d",
				 f->thread->tid);
	m->no_new_privs = nnp != 0;
	/* Of a thread that has ended nobody can ask any more, nor do they matter. */
	m->securebits = slot         ? (uint32_t)slot_ret(a, slot, (uint32_t)priv[0])
			: f->process ? (uint32_t)f->process->securebits
				     : 0;
	return 0;
}

/* ---- restore ---------------------------------------------------------------------------- */

struct creds {
	uid_t uid[4];
	gid_t gid[4];
	uint64_t inheritable, permitted, effective, bounding, ambient;
	uint32_t securebits;
	bool no_new_privs;
};

/* What a task starts with: ckpt's own. */
static int read_own(struct creds *c)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct v[2];

	memset(c, 0, sizeof(*c));
	if (getresuid(&c->uid[0], &c->uid[1], &c->uid[2]) ||
	    getresgid(&c->gid[0], &c->gid[1], &c->gid[2]) || syscall(SYS_capget, &h, v))
		return -errno;
	c->uid[3] = (uid_t)setfsuid((uid_t)-1);
	c->gid[3] = (gid_t)setfsgid((gid_t)-1);
	c->inheritable = v[0].inheritable | (uint64_t)v[1].inheritable << 32;
	c->permitted = v[0].permitted | (uint64_t)v[1].permitted << 32;
	c->effective = v[0].effective | (uint64_t)v[1].effective << 32;
	for (int i = 0; i < 64; i++) {
		int in = prctl(PR_CAPBSET_READ, i);

		if (in < 0)
			break;
		c->bounding |= (uint64_t)in << i;
		c->ambient |= (uint64_t)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) > 0)
			      << i;
	}
	c->securebits = (uint32_t)prctl(PR_GET_SECUREBITS);
	c->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) > 0;
	return 0;
}

/* Asked for once: more than a hundred system calls. */
static const struct creds *own_creds(void)
{
	static struct creds own;
	static bool known;

	known = known || !read_own(&own);
	return known ? &own : NULL;
}

static bool same_groups(const Ckpt__TaskCreds *m)
{
	auto_free gid_t *now = NULL;
	int n = getgroups(0, NULL);

	if (n < 0 || (size_t)n != m->n_groups)
		return false;
	now = malloc(((size_t)n + 1) * sizeof(*now));
	return now && getgroups(n, now) == n &&
	       (n == 0 || !memcmp(now, m->groups, (size_t)n * sizeof(*now)));
}

static bool same_creds(const Ckpt__TaskCreds *m, const struct creds *own)
{
	return !memcmp(m->uid, own->uid, sizeof(own->uid)) &&
	       !memcmp(m->gid, own->gid, sizeof(own->gid)) && m->inheritable == own->inheritable &&
	       m->permitted == own->permitted && m->effective == own->effective &&
	       m->bounding == own->bounding && m->ambient == own->ambient &&
	       m->securebits == own->securebits && m->no_new_privs == own->no_new_privs &&
	       same_groups(m);
}

static int refuse_larger(const Ckpt__Thread *thread, const char *set, uint64_t want, uint64_t have,
			 struct ckpt_err *err)
{
	uint64_t more = want & ~have;
	char *name;

	if (!more)
		return 0;
	name = cap_to_name(__builtin_ctzll(more));
	ckpt_fail(err, E_PERM, -EPERM,
		  "cannot restore thread %d: its %s set has %s, ckpt's has not", thread->tid, set,
		  name ? name : "an unknown capability");
	ckpt_remedy(err, "restore where ckpt has it (see CapPrm and CapBnd in /proc/self/status)");
	cap_free(name);
	return -EPERM;
}

static void step_capset(struct steps *s, const char *label, uint64_t inh, uint64_t perm,
			uint64_t eff)
{
	const struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	const struct __user_cap_data_struct v[2] = {
		{ (uint32_t)eff, (uint32_t)perm, (uint32_t)inh },
		{ (uint32_t)(eff >> 32), (uint32_t)(perm >> 32), (uint32_t)(inh >> 32) },
	};

	steps_call(s, label, SYS_capset, steps_data(s, &h, sizeof(h)), steps_data(s, v, sizeof(v)));
}

static void step_expect(struct steps *s, const char *label, uint32_t nr, uint64_t arg, int64_t want)
{
	steps_add(s,
		  &(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					.flags = CKPT_STEP_EXPECT,
					.nr = nr,
					.arg = { arg },
					.want = want },
		  label);
}

/* The order matters: ids keep capabilities by NO_SETUID_FIXUP; the inheritable set is set before
 * the bounding set is cut, ambient ones while they are permitted and inheritable, securebits while
 * CAP_SETPCAP is there, and the final sets at the end. */
static int creds_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		      const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskCreds *m = msg;
	const struct creds *own = own_creds();
	int rc;

	(void)r;
	(void)task;
	if (m->n_uid != 4 || m->n_gid != 4 || m->n_groups > GROUPS_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "credentials of thread %d",
				 thread->tid);
	if (!own)
		return ckpt_fail_errno(err, E_KERNEL, -errno, "cannot read ckpt's own credentials");
	if ((rc = refuse_larger(thread, "permitted", m->permitted, own->permitted, err)) ||
	    (rc = refuse_larger(thread, "bounding", m->bounding, own->bounding, err)))
		return rc;
	if (same_creds(m, own))
		return 0;
	if (!same_groups(m))
		steps_call(s, "setgroups", SYS_setgroups, m->n_groups,
			   m->n_groups ? steps_data(s, m->groups, m->n_groups * sizeof(*m->groups))
				       : 0);
	steps_call(s, "PR_SET_SECUREBITS", SYS_prctl, PR_SET_SECUREBITS,
		   own->securebits | SECBIT_NO_SETUID_FIXUP);
	steps_call(s, "setresgid", SYS_setresgid, m->gid[0], m->gid[1], m->gid[2]);
	steps_call(s, "setresuid", SYS_setresuid, m->uid[0], m->uid[1], m->uid[2]);
	if (m->gid[3] != m->gid[1]) {
		steps_call(s, "setfsgid", SYS_setfsgid, m->gid[3]);
		step_expect(s, "setfsgid", SYS_setfsgid, (uint32_t)-1, m->gid[3]);
	}
	if (m->uid[3] != m->uid[1]) {
		steps_call(s, "setfsuid", SYS_setfsuid, m->uid[3]);
		step_expect(s, "setfsuid", SYS_setfsuid, (uint32_t)-1, m->uid[3]);
	}
	step_capset(s, "capset (inheritable)", m->inheritable, own->permitted, own->permitted);
	for (int i = 0; i < 64; i++)
		if (own->bounding & ~m->bounding & 1ull << i)
			steps_call(s, "PR_CAPBSET_DROP", SYS_prctl, PR_CAPBSET_DROP, (uint64_t)i);
	for (int i = 0; i < 64; i++)
		if (m->ambient & 1ull << i)
			steps_call(s, "PR_CAP_AMBIENT", SYS_prctl, PR_CAP_AMBIENT,
				   PR_CAP_AMBIENT_RAISE, (uint64_t)i);
	steps_call(s, "PR_SET_SECUREBITS", SYS_prctl, PR_SET_SECUREBITS, m->securebits);
	step_capset(s, "capset", m->inheritable, m->permitted, m->effective);
	if (m->no_new_privs)
		steps_call(s, "PR_SET_NO_NEW_PRIVS", SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
	return 0;
}

const struct task_kind task_kind_creds = {
	.name = "creds",
	.desc = &ckpt__task_creds__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_CREDS,
	.ask = creds_ask,
	.alike = creds_alike,
	.dump = creds_dump,
	.of_ended = true,
	.plan = creds_plan,
};
