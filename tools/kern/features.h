/* SPDX-License-Identifier: GPL-2.0-only */
/* What this kernel can do, by trying it; never by its version. */
#ifndef CKPT_KERN_FEATURES_H
#define CKPT_KERN_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

struct kern_feature {
	const char *name;
	bool present;
	bool required;
	const char *what;    /* what it is used for */
	const char *without; /* what is lost without it */
};
#define KERN_FEATURES_MAX 32

/* Fills @ret (KERN_FEATURES_MAX entries); returns how many. */
size_t kern_features(struct kern_feature *ret);

#endif
