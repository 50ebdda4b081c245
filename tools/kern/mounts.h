/* SPDX-License-Identifier: GPL-2.0-only */
/* The lines of /proc/PID/mountinfo. */
#ifndef CKPT_KERN_MOUNTS_H
#define CKPT_KERN_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Names are as they are, not escaped as the kernel prints them. */
struct mount {
	uint64_t id;
	dev_t dev;
	const char *root;   /* of the file system, what is mounted */
	const char *at;     /* where */
	const char *how;    /* options of the mount */
	const char *type;   /* of the file system */
	const char *source; /* what was given as such; may be "" */
	const char *super;  /* options of the file system */
};

/* The next mount of *at, the text of a mountinfo, which is taken apart in place: what @ret points
 * to lives as long as the text. Lines that are none are passed over; false at the end. */
bool mount_next(char **at, struct mount *ret);

#endif
