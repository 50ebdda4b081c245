// SPDX-License-Identifier: GPL-2.0-only
#include "kern/ahead.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/quiet.h"
#include "kern/procfs.h"

/* Fewer are read before a thread has started. */
#define WORTH_A_THREAD 32u
/* The reader keeps so many in front of the taker, that no text is read twice, and no more than so
 * many, which bounds the memory: threads may be a hundred thousand. */
#define LEAD_MIN 2u
#define LEAD_MAX 1024u

struct status_ahead {
	int pid;
	const int *tids;
	size_t n;
	pthread_t reader;
	pthread_mutex_t lock; /* of the two below */
	pthread_cond_t nearer;
	bool far; /* the reader waits for the taker */
	bool over;
	atomic_size_t taken;    /* how many the taker has asked for */
	_Atomic(char *) text[]; /* one of each thread; NULL: not read */
};

static char taken_mark; /* nobody needs its text any more */

/* Which one is to be read, @next or a later one; the number of all: none. */
static size_t await_turn(struct status_ahead *a, size_t next)
{
	size_t taken;
	bool over;

	pthread_mutex_lock(&a->lock);
	while (!a->over && next > atomic_load(&a->taken) + LEAD_MAX) {
		a->far = true;
		pthread_cond_wait(&a->nearer, &a->lock);
	}
	over = a->over;
	pthread_mutex_unlock(&a->lock);
	taken = atomic_load(&a->taken);
	if (over)
		return a->n;
	return taken && next < taken + LEAD_MIN ? taken + LEAD_MIN : next;
}

static void come_nearer(struct status_ahead *a, bool over)
{
	pthread_mutex_lock(&a->lock);
	a->over = over;
	if (a->far)
		pthread_cond_signal(&a->nearer);
	a->far = false;
	pthread_mutex_unlock(&a->lock);
}

static void *read_ahead(void *arg)
{
	struct status_ahead *a = arg;

	for (size_t i = await_turn(a, 0); i < a->n; i = await_turn(a, i + 1)) {
		struct ckpt_err ignore = { 0 };
		char *text = NULL, *none = NULL;

		if (proc_thread_status(a->pid, a->tids[i], &text, &ignore))
			continue;
		if (!atomic_compare_exchange_strong(&a->text[i], &none, text))
			free(text);
	}
	return NULL;
}

static void status_ahead_free(struct status_ahead *a)
{
	pthread_cond_destroy(&a->nearer);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

struct status_ahead *status_ahead_begin(int pid, const int *tids, size_t n)
{
	struct status_ahead *a;

	if (n < WORTH_A_THREAD)
		return NULL;
	a = calloc(1, sizeof(*a) + n * sizeof(a->text[0]));
	if (!a)
		return NULL;
	a->pid = pid;
	a->tids = tids;
	a->n = n;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->nearer, NULL);
	if (!quiet_thread(&a->reader, read_ahead, a))
		return a;
	status_ahead_free(a);
	return NULL;
}

int status_ahead_take(struct status_ahead *a, int pid, size_t i, int tid, char **ret,
		      struct ckpt_err *err)
{
	char *text = NULL;

	if (a) {
		atomic_store(&a->taken, i + 1);
		if (i % (LEAD_MAX / 2) == 0)
			come_nearer(a, false);
		text = atomic_exchange(&a->text[i], &taken_mark);
	}
	if (!text)
		return proc_thread_status(pid, tid, ret, err);
	*ret = text;
	return 0;
}

void status_ahead_end(struct status_ahead *a)
{
	if (!a)
		return;
	come_nearer(a, true);
	(void)pthread_join(a->reader, NULL);
	for (size_t i = 0; i < a->n; i++) {
		char *text = atomic_load(&a->text[i]);

		if (text != &taken_mark)
			free(text);
	}
	status_ahead_free(a);
}
