/* SPDX-License-Identifier: GPL-2.0-only */
/* Which processes a program has while it runs, for a peer that makes them early. */
#ifndef CKPT_MIGRATE_TREE_H
#define CKPT_MIGRATE_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "dump/dump.h"
#include "migrate/link.h"

struct tree {
	struct births births; /* n 0: it changes too fast to be looked at */
	struct family_seen *seen;
};

/* Look at what is below @pid. */
void tree_look(struct tree *t, int pid);
void tree_free(struct tree *t);
/* What is wanted of a process at its birth there. */
struct tree_wish {
	bool late;   /* not yet */
	int heir_of; /* with the memory of its parent of this number; 0: with none */
};
/* A sum of what tree_send() says; @wish is by the index of births. That it inherits is said once
 * and not in the sum. */
uint64_t tree_sum(const struct tree *t, const struct tree_wish *wish);
/* Tell the other side. 0 or -errno of the link. */
int tree_send(const struct tree *t, const struct tree_wish *wish, struct link *l);
/* Has it pages in common with a process that it was forked from, or that was forked from it? Looks
 * at each page: 12 ms per GiB. */
bool tree_shares(int pid);
/* Bytes of memory of its own that @pid has. */
uint64_t tree_memory(int pid);

#endif
