/* SPDX-License-Identifier: GPL-2.0-only */
/* Cleanup attributes: own a thing, then hand it over with take_*(). */
#ifndef CKPT_BASE_CLEANUP_H
#define CKPT_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

static inline void cleanup_file(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

#define auto_fd __attribute__((cleanup(cleanup_fd))) int
#define auto_free __attribute__((cleanup(cleanup_free)))
#define auto_dir __attribute__((cleanup(cleanup_dir)))
#define auto_file __attribute__((cleanup(cleanup_file)))

static inline int take_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *take_pp = &(p);                                                     \
		__typeof__(p) take_ret = *take_pp;                                                 \
		*take_pp = NULL;                                                                   \
		take_ret;                                                                          \
	})

#endif
