/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_FD_GHOST_H
#define CKPT_KIND_FD_GHOST_H

#include "kind/kind.h"

/* The object of the removed file behind f->local, one for all its descriptions and mappings. */
int ghost_dump(struct dump_ctx *d, const struct fd_facts *f, uint32_t *ret_id,
	       struct ckpt_err *err) __must_check;

/* The object with the contents of the file behind f->local, for use when the file itself is no
 * longer what it was. */
int ghost_store(struct dump_ctx *d, const struct fd_facts *f, uint32_t *ret_id,
		struct ckpt_err *err) __must_check;

/* A free name in the directory of @path, which may be @path itself. */
int ghost_name(const char *path, char *ret, size_t size);

#endif
