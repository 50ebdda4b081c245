// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "kern/procfs.h"
#include "migrate/wire.h"

#define LOOKS 3

void tree_look(struct tree *t, int pid)
{
	tree_free(t);
	for (int i = 0; i < LOOKS; i++)
		if (dump_family_look(pid, &t->births, &t->seen) != -EAGAIN)
			break;
}

void tree_free(struct tree *t)
{
	births_free(&t->births);
	free(t->seen);
	t->seen = NULL;
}

uint64_t tree_sum(const struct tree *t, const struct tree_wish *wish)
{
	uint64_t sum = 1;

	for (size_t i = 0; i < t->births.n; i++) {
		const struct birth *x = &t->births.v[i];
		const uint64_t now[] = {
			sum,
			(uint64_t)x->pid << 32 | (uint32_t)x->ppid,
			(uint64_t)x->pgid << 32 | (uint32_t)x->sid,
			(uint64_t)x->files << 32 | (uint32_t)x->fs,
			(uint64_t)x->exit_signal << 32 | x->lone_sid | x->lone_pgid << 1,
			(uint64_t)t->seen[i].zombie << 2 | t->seen[i].tty << 1 | wish[i].late,
			t->seen[i].start,
		};

		sum = XXH3_64bits(now, sizeof(now));
	}
	return sum;
}

int tree_send(const struct tree *t, const struct tree_wish *wish, struct link *l)
{
	size_t n = t->births.n;
	auto_free Ckpt__MigTask *all = calloc(n + 1, sizeof(*all));
	auto_free Ckpt__MigTask **v = calloc(n + 1, sizeof(Ckpt__MigTask *));
	Ckpt__MigTree m = CKPT__MIG_TREE__INIT;

	if (!n)
		return 0;
	if (!all || !v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct birth *x = &t->births.v[i];

		ckpt__mig_task__init(&all[i]);
		all[i].pid = x->pid;
		all[i].ppid = x->ppid;
		all[i].pgid = x->pgid;
		all[i].sid = x->sid;
		all[i].exit_signal = x->exit_signal;
		all[i].lone_sid = x->lone_sid;
		all[i].lone_pgid = x->lone_pgid;
		all[i].files = x->files;
		all[i].fs = x->fs;
		all[i].zombie = t->seen[i].zombie;
		/* The terminal is inherited from a leader who has it; the peer's gets it in the
		 * end. */
		all[i].late = t->seen[i].tty || wish[i].late;
		all[i].heir_of = wish[i].heir_of;
		v[i] = &all[i];
	}
	m.tasks = v;
	m.n_tasks = n;
	/* What does not fit into a frame is made in the end. */
	if (ckpt__mig_tree__get_packed_size(&m) > MIG_FRAME_MAX - 64)
		return 0;
	return wire_send_msg(l, MIG_TREE, &m.base);
}

uint64_t tree_memory(int pid)
{
	auto_free char *status = NULL;
	struct ckpt_err gone = { 0 };
	uint64_t kib = 0;

	if (proc_read(pid, "status", &status, NULL, &gone) ||
	    !proc_field_num(status, "RssAnon", 0, 10, &kib))
		return 0;
	return kib << 10;
}

bool tree_shares(int pid)
{
	auto_free char *rollup = NULL;
	struct ckpt_err gone = { 0 };
	uint64_t all = 0, part = 0;

	/* Of the part in KiB something is cut off. */
	return proc_read(pid, "smaps_rollup", &rollup, NULL, &gone) ||
	       !proc_field_num(rollup, "Anonymous", 0, 10, &all) ||
	       !proc_field_num(rollup, "Pss_Anon", 0, 10, &part) || part + 1 < all;
}
