// SPDX-License-Identifier: GPL-2.0-only
/*
 * To free what a file holds takes 0.2 s per GiB, and whoever removes its last
 * name waits for it, unless it is open: then it is who closes it. A thread does.
 * If ckpt ends first, the kernel does.
 */
#include "dump/gone.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/quiet.h"
#include "base/vec.h"

#define LARGE (16 << 20)

void gone_unlink(struct gone *g, int dir_fd, const char *name)
{
	struct stat st;
	bool large = !fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
		     st.st_nlink == 1 && st.st_blocks >= LARGE / 512;
	int *slot = large ? vec_push(&g->fds) : NULL;

	if (slot) {
		*slot = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		g->fds.n -= *slot < 0;
	}
	(void)unlinkat(dir_fd, name, 0);
}

static void close_all(struct gone_fds *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		(void)close(fds->v[i]);
	vec_free(fds);
}

static void *close_main(void *arg)
{
	struct gone *g = arg;

	close_all(&g->closing);
	atomic_store(&g->done, true);
	return NULL;
}

static void join(struct gone *g)
{
	if (g->running)
		(void)pthread_join(g->thread, NULL);
	g->running = false;
}

void gone_free(struct gone *g)
{
	/* They can wait for the next time. */
	if (!g->fds.n || (g->running && !atomic_load(&g->done)))
		return;
	join(g);
	g->closing = g->fds;
	g->fds = (struct gone_fds) { 0 };
	atomic_store(&g->done, false);
	g->running = !quiet_thread(&g->thread, close_main, g);
	if (!g->running)
		close_all(&g->closing);
}

bool gone_any(const struct gone *g)
{
	return g->fds.n || g->running;
}

void gone_wait(struct gone *g)
{
	join(g);
	close_all(&g->fds);
}
