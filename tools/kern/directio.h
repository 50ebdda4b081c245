/* SPDX-License-Identifier: GPL-2.0-only */
/* Writes into a program's memory that no page table tells of. */
#ifndef CKPT_KERN_DIRECTIO_H
#define CKPT_KERN_DIRECTIO_H

#include <stdbool.h>

/*
 * May a read(2) of process @pid put data into its memory by way of pinned pages (O_DIRECT, or a
 * file system that reads past the page cache)? Such data arrives at any time before the call
 * returns, and the page looks unwritten to every tracker when it was armed in between. Also true
 * when @pid cannot be looked at. One look: a file may be opened right after it.
 */
bool directio_possible(int pid);

#endif
