// SPDX-License-Identifier: GPL-2.0-only
#include "kern/sharing.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

struct order {
	const int *pids;
	int type;
};

bool sharing_same(int a, int b, int type)
{
	return syscall(SYS_kcmp, a, b, type, 0, 0) == 0;
}

/* The kernel gives an order of its objects: 1 less, 2 greater. Equal ones in order of their index.
 */
static int order_compare(const void *a, const void *b, void *arg)
{
	const struct order *o = arg;
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	long c = syscall(SYS_kcmp, o->pids[x], o->pids[y], o->type, 0, 0);

	if (c == 1 || c == 2)
		return c == 1 ? -1 : 1;
	return (x > y) - (x < y);
}

struct kin_at {
	uint64_t object;
	size_t at;
};

static int kin_compare(const void *a, const void *b)
{
	const struct kin_at *x = a, *y = b;

	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static uint64_t object_of(const struct task_kin *kin, int type)
{
	return type == KCMP_VM ? kin->vm : type == KCMP_FILES ? kin->files : kin->fs;
}

/* False: not all of them are there, or there is no memory. */
static bool find_by_kins(const int *pids, size_t n, int type, const struct task_kins *kins,
			 size_t *ret_first)
{
	auto_free struct kin_at *v = malloc((n + 1) * sizeof(*v));

	if (!v)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct task_kin *kin = task_kin_find(kins, pids[i]);

		if (!kin || !object_of(kin, type))
			return false;
		v[i] = (struct kin_at) { object_of(kin, type), i };
	}
	qsort(v, n, sizeof(*v), kin_compare);
	for (size_t i = 0; i < n; i++)
		ret_first[v[i].at] =
			i && v[i].object == v[i - 1].object ? ret_first[v[i - 1].at] : v[i].at;
	return true;
}

int sharing_find(const int *pids, size_t n, int type, const struct task_kins *kins,
		 size_t *ret_first, struct ckpt_err *err)
{
	auto_free size_t *at = malloc((n + 1) * sizeof(*at));
	struct order o = { pids, type };
	size_t m = 0;

	if (!at)
		return ckpt_oom(err);
	if (n && kins && kins->n && find_by_kins(pids, n, type, kins, ret_first))
		return 0;
	for (size_t i = 0; i < n; i++) {
		ret_first[i] = i;
		/* What has ended has no place in an order. */
		if (pids[i] > 0 && sharing_same(pids[i], pids[i], type))
			at[m++] = i;
	}
	qsort_r(at, m, sizeof(*at), order_compare, &o);
	for (size_t i = 1; i < m; i++)
		if (sharing_same(pids[at[i - 1]], pids[at[i]], type))
			ret_first[at[i]] = ret_first[at[i - 1]];
	return 0;
}
