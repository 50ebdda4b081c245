/* SPDX-License-Identifier: GPL-2.0-only */
/* Removing large files without waiting for it. */
#ifndef CKPT_DUMP_GONE_H
#define CKPT_DUMP_GONE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Zeroed: nothing is gone. */
struct gone {
	struct gone_fds {
		int *v;
		size_t n, cap;
	} fds, closing; /* of files without a name; closing is the thread's while it runs */
	pthread_t thread;
	bool running;
	atomic_bool done;
};

/* The name goes at once, what the file holds with gone_free(). */
void gone_unlink(struct gone *g, int dir_fd, const char *name);
/* Begin to give the disk back what they hold. */
void gone_free(struct gone *g);
/* Was anything unlinked since the last gone_wait(), which may or may not be free by now? */
bool gone_any(const struct gone *g);
/* Until it has all of it. */
void gone_wait(struct gone *g);

#endif
