/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_FD_SHMEM_H
#define CKPT_KIND_FD_SHMEM_H

#include "kind/kind.h"

/* The object of the memory file behind @local (borrowed), whose /proc link is @link. */
int shmem_inode_dump(struct dump_ctx *d, int local, const char *link, uint32_t *ret_id,
		     struct ckpt_err *err) __must_check;

#endif
