// SPDX-License-Identifier: GPL-2.0-only
#include "model/births.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"

int births_init(struct births *b, size_t n, struct ckpt_err *err)
{
	memset(b, 0, sizeof(*b));
	b->v = calloc(n + 1, sizeof(*b->v));
	b->order = calloc(n + 1, sizeof(*b->order));
	b->kids = calloc(n + 1, sizeof(*b->kids));
	b->kids_at = calloc(n + 3, sizeof(*b->kids_at));
	b->born = calloc(n + 1, sizeof(*b->born));
	b->born_at = calloc(n + 3, sizeof(*b->born_at));
	b->by_pid = calloc(n + 1, sizeof(*b->by_pid));
	if (!b->v || !b->order || !b->kids || !b->kids_at || !b->by_pid || !b->born ||
	    !b->born_at) {
		births_free(b);
		return ckpt_oom(err);
	}
	b->n = n;
	return 0;
}

void births_free(struct births *b)
{
	free(b->v);
	free(b->order);
	free(b->kids);
	free(b->kids_at);
	free(b->born);
	free(b->born_at);
	free(b->by_pid);
	free(b->standins);
	memset(b, 0, sizeof(*b));
}

static int pid_compare(const void *x, const void *y, void *arg)
{
	const struct birth *v = arg;
	int a = v[*(const size_t *)x].pid, c = v[*(const size_t *)y].pid;

	return (a > c) - (a < c);
}

size_t births_find(const struct births *b, int pid)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (b->v[b->by_pid[mid]].pid == pid)
			return b->by_pid[mid];
		if (b->v[b->by_pid[mid]].pid < pid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return BIRTH_NOBODY;
}

void births_index(struct births *b)
{
	for (size_t i = 0; i < b->n; i++)
		b->by_pid[i] = i;
	qsort_r(b->by_pid, b->n, sizeof(*b->by_pid), pid_compare, b->v);
}

/* Parents by index, children by parent. */
static int link_up(struct births *b, struct ckpt_err *err)
{
	births_index(b);
	for (size_t i = 0; i < b->n; i++) {
		struct birth *x = &b->v[i];

		x->parent = i ? births_find(b, x->ppid) : BIRTH_NOBODY;
		x->by = x->standin = BIRTH_NOBODY;
		if (i && (x->parent == BIRTH_NOBODY || x->parent >= i))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "task %d comes before its parent", x->pid);
		if (i)
			b->kids_at[x->parent + 2]++;
	}
	for (size_t i = 2; i < b->n + 2; i++)
		b->kids_at[i] += b->kids_at[i - 1];
	for (size_t i = 1; i < b->n; i++)
		b->kids[b->kids_at[b->v[i].parent + 1]++] = i;
	return 0;
}

static bool is_below(const struct births *b, size_t i, size_t top)
{
	while (i != BIRTH_NOBODY && i > top)
		i = b->v[i].parent;
	return i == top;
}

static bool has_member_elsewhere(const struct births *b, int sid, size_t top)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->v[i].sid == sid && !is_below(b, i, top))
			return true;
	return false;
}

/* In which session the leader of another one was born shows only in children it had before: theirs,
 * if it can have been the same one; otherwise that of its parent. */
static void find_birth_sid(struct births *b, size_t i)
{
	struct birth *x = &b->v[i];
	const struct birth *p = i ? &b->v[x->parent] : NULL;

	x->birth_sid = x->sid;
	x->birth_lone = x->lone_sid;
	if (x->sid != x->pid)
		return;
	x->birth_sid = p ? p->sid : 0;
	x->birth_lone = p ? p->lone_sid : false;
	for (size_t k = b->kids_at[i]; k < b->kids_at[i + 1]; k++) {
		const struct birth *c = &b->v[b->kids[k]];

		if (c->sid == c->pid || c->sid == x->sid)
			continue;
		if (p ? c->sid != p->sid && c->sid != p->birth_sid &&
				    !has_member_elsewhere(b, c->sid, i)
		      : c->lone_sid || births_find(b, c->sid) != BIRTH_NOBODY)
			continue;
		x->birth_sid = c->sid;
		x->birth_lone = c->lone_sid;
		return;
	}
}

static int refuse(struct ckpt_err *err, const struct birth *x, const char *why)
{
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "task %d is in session %d, %s", x->pid,
			 x->birth_sid, why);
}

static int add_standin(struct births *b, int pid, bool session, size_t host, int exit_signal,
		       size_t *ret, struct ckpt_err *err)
{
	struct birth_standin *g =
		vec_grow((void **)&b->standins, &b->nstandins, &b->standins_cap, sizeof(*g));

	if (!g)
		return ckpt_oom(err);
	*g = (struct birth_standin) {
		.pid = pid, .session = session, .host = host, .exit_signal = exit_signal
	};
	*ret = b->nstandins - 1;
	return 0;
}

static int by_standin(struct births *b, struct birth *x, struct ckpt_err *err)
{
	x->by = x->parent;
	x->how = BIRTH_SIBLING;
	for (size_t k = 0; k < b->nstandins; k++) {
		const struct birth_standin *g = &b->standins[k];

		if (!g->session || g->pid != x->birth_sid)
			continue;
		if (g->host != x->parent)
			return refuse(err, x,
				      "whose leader has ended, and which has members below several "
				      "parents");
		if (g->exit_signal != x->exit_signal)
			return refuse(err, x, "and tells its end in an unusual way");
		x->standin = k;
		return 0;
	}
	return add_standin(b, x->birth_sid, true, x->parent, x->exit_signal, &x->standin, err);
}

static int by_leader(struct births *b, struct birth *x, size_t leader, struct ckpt_err *err)
{
	const struct birth *l = &b->v[leader];

	x->by = leader;
	if (l->parent == x->parent && l->exit_signal == x->exit_signal) {
		x->how = BIRTH_SIBLING;
		return 0;
	}
	if (!is_below(b, leader, x->parent) || x->exit_signal != SIGCHLD)
		return refuse(err, x, "which it cannot be born into");
	x->how = BIRTH_ORPHAN;
	b->v[x->parent].adopts = true;
	return 0;
}

static int find_birth(struct births *b, size_t i, struct ckpt_err *err)
{
	struct birth *x = &b->v[i];
	const struct birth *p = i ? &b->v[x->parent] : NULL;
	size_t leader;

	find_birth_sid(b, i);
	if (!p)
		return x->birth_lone ? by_standin(b, x, err) : 0;
	x->by = x->parent;
	if (x->birth_sid == p->sid)
		return 0;
	x->before_setsid = x->birth_sid == p->birth_sid;
	if (x->before_setsid)
		return 0;
	leader = births_find(b, x->birth_sid);
	if (leader != BIRTH_NOBODY && b->v[leader].sid == x->birth_sid)
		return by_leader(b, x, leader, err);
	if (x->birth_lone)
		return by_standin(b, x, err);
	return refuse(err, x, "whose leader is outside of the tree");
}

/* Whoever is reaped by an adopter further down would end in the wrong family. */
static int check_orphans(const struct births *b, struct ckpt_err *err)
{
	for (size_t i = 1; i < b->n; i++) {
		const struct birth *x = &b->v[i];

		if (x->how != BIRTH_ORPHAN)
			continue;
		for (size_t at = x->by; at != x->parent; at = b->v[at].parent)
			if (b->v[at].adopts)
				return refuse(err, x, "which it cannot be born into");
	}
	return 0;
}

static bool has_group_standin(const struct births *b, int pgid)
{
	for (size_t k = 0; k < b->nstandins; k++)
		if (b->standins[k].pid == pgid)
			return true;
	return false;
}

static int find_groups(struct births *b, struct ckpt_err *err)
{
	size_t outer = BIRTH_NOBODY, ignore;

	for (size_t i = 0; i < b->n; i++) {
		struct birth *x = &b->v[i];
		size_t leader = births_find(b, x->pgid);
		int rc = 0;

		if (x->pgid == x->pid)
			continue;
		if (leader != BIRTH_NOBODY)
			b->v[leader].lends_group |= b->v[leader].pgid != x->pgid;
		else if (x->lone_pgid && !has_group_standin(b, x->pgid))
			rc = add_standin(b, x->pgid, false, i, 0, &ignore, err);
		else if (!x->lone_pgid && outer == BIRTH_NOBODY)
			outer = i;
		else if (!x->lone_pgid && b->v[outer].pgid != x->pgid)
			rc = ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				       "task %d is in process group %d, whose leader is outside of "
				       "the tree",
				       x->pid, x->pgid);
		if (rc)
			return rc;
	}
	return 0;
}

/* Breadth first from ckpt: whom nobody reaches would have to be born before itself. */
static int find_order(struct births *b, struct ckpt_err *err)
{
	size_t n = 1, *at = b->born_at;

	for (size_t i = 1; i < b->n; i++)
		at[b->v[i].by + 2]++;
	for (size_t i = 2; i < b->n + 2; i++)
		at[i] += at[i - 1];
	for (size_t i = 1; i < b->n; i++)
		b->born[at[b->v[i].by + 1]++] = i;
	b->order[0] = 0;
	for (size_t done = 0; done < n; done++)
		for (size_t k = at[b->order[done]]; k < at[b->order[done] + 1]; k++)
			b->order[n++] = b->born[k];
	return n == b->n ? 0
			 : ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				     "sessions and parents go round in a circle");
}

static int *share_key(struct birth *x, unsigned int what)
{
	return what == BIRTH_FILES ? &x->files : &x->fs;
}

/* Does the first share something with the second that it does not share with its parent? */
static bool shares_aside(const struct births *b, const struct birth *x, const struct birth *y)
{
	const struct birth *p = &b->v[x->parent];

	return (x->files && x->files == y->files && x->files != p->files) ||
	       (x->fs && x->fs == y->fs && x->fs != p->fs);
}

/* Siblings who share something without their parent: the first clones the others, so that the
 * parent need not share it for a time. */
static void find_siblings(struct births *b)
{
	for (size_t i = 1; i < b->n; i++) {
		struct birth *x = &b->v[i];

		if (x->how != BIRTH_CHILD || x->standin != BIRTH_NOBODY || (!x->files && !x->fs))
			continue;
		for (size_t k = b->kids_at[x->parent]; k < b->kids_at[x->parent + 1]; k++) {
			const struct birth *y = &b->v[b->kids[k]];

			if (b->kids[k] >= i)
				break;
			if (!shares_aside(b, x, y) || y->sid != x->birth_sid ||
			    y->exit_signal != x->exit_signal)
				continue;
			x->by = b->kids[k];
			x->how = BIRTH_SIBLING;
			x->before_setsid = false;
			break;
		}
	}
}

static int carry(struct births *b, int *carrier, size_t at, int key, unsigned int what,
		 struct ckpt_err *err)
{
	if (carrier[at] && carrier[at] != key)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "task %d would have to share %s with processes that do not share "
				 "them with each other",
				 b->v[at].pid, what == BIRTH_FILES ? "descriptors" : "directories");
	carrier[at] = key;
	return 0;
}

/* Join @x to its group, whose highest process so far is *@top: up from both until they meet. */
static int share_join(struct births *b, int *carrier, const size_t *depth, size_t x, size_t *top,
		      unsigned int what, struct ckpt_err *err)
{
	int key = *share_key(&b->v[x], what), rc;

	if (carrier[x] == key)
		return 0;
	rc = carry(b, carrier, x, key, what, err);
	if (*top == BIRTH_NOBODY)
		*top = x;
	while (!rc && x != *top) {
		size_t *up = depth[x] > depth[*top] ? &x : top;

		b->v[*up].share |= what;
		*up = b->v[*up].by;
		if (up == &x && carrier[x] == key)
			break;
		rc = carry(b, carrier, *up, key, what, err);
	}
	return rc;
}

static int find_shares(struct births *b, unsigned int what, struct ckpt_err *err)
{
	int *carrier = calloc(b->n + 1, sizeof(*carrier)), rc = 0;
	size_t *depth = calloc(b->n + 1, sizeof(*depth));
	size_t *top = malloc((b->n + 1) * sizeof(*top));

	if (!carrier || !depth || !top)
		rc = ckpt_oom(err);
	for (size_t k = 1; !rc && k < b->n; k++)
		depth[b->order[k]] = depth[b->v[b->order[k]].by] + 1;
	for (size_t i = 0; !rc && i <= b->n; i++)
		top[i] = BIRTH_NOBODY;
	for (size_t i = 0; !rc && i < b->n; i++) {
		int key = *share_key(&b->v[i], what);

		if (key < 0 || (size_t)key > b->n)
			rc = ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "task %d shares with nobody",
				       b->v[i].pid);
		else if (key)
			rc = share_join(b, carrier, depth, i, &top[key], what, err);
	}
	for (size_t i = 0; !rc && i < b->n; i++)
		if (carrier[i] && *share_key(&b->v[i], what) != carrier[i])
			b->v[i].leave |= what;
	free(carrier);
	free(depth);
	free(top);
	return rc;
}

int births_plan(struct births *b, struct ckpt_err *err)
{
	int rc = link_up(b, err);

	for (size_t i = 0; !rc && i < b->n; i++)
		rc = find_birth(b, i, err);
	if (!rc)
		find_siblings(b);
	if (!rc)
		rc = check_orphans(b, err);
	if (!rc)
		rc = find_groups(b, err);
	if (!rc)
		rc = find_order(b, err);
	if (!rc)
		rc = find_shares(b, BIRTH_FILES, err);
	return rc ? rc : find_shares(b, BIRTH_FS, err);
}
