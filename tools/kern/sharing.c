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

int sharing_find(const int *pids, size_t n, int type, size_t *ret_first, struct ckpt_err *err)
{
	auto_free size_t *at = malloc((n + 1) * sizeof(*at));
	struct order o = { pids, type };

	if (!at)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		at[i] = ret_first[i] = i;
	qsort_r(at, n, sizeof(*at), order_compare, &o);
	for (size_t i = 1; i < n; i++)
		if (sharing_same(pids[at[i - 1]], pids[at[i]], type))
			ret_first[at[i]] = ret_first[at[i - 1]];
	return 0;
}
