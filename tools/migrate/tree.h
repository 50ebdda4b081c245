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
/* A sum of what tree_send() says. */
uint64_t tree_sum(const struct tree *t);
/* Tell the other side. 0 or -errno of the link. */
int tree_send(const struct tree *t, struct link *l);
/* Bytes of memory of its own that @pid has. */
uint64_t tree_memory(int pid);

#endif
