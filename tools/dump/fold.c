// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread that reads and writes files, and nothing else: what has to do with
 * the program, its keeper and the names in the series stays with the loop of
 * the series. It keeps out of the way of the dumps: they, and the program, have
 * a processor and the disk first.
 */
#include "dump/fold.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/quiet.h"

#define NICE 19
/* linux/ioprio.h is younger than the systems we build on: class "best effort", lowest level */
#define IOPRIO_LOWEST (2 << 13 | 7)
#define IOPRIO_WHO_THREAD 1

struct fold {
	pthread_t thread;
	atomic_int tid;
	atomic_bool cancel, done;
	enum pack_how pack;
	char *from, *to;
	struct image img;
	struct page_moves moves;
	struct image_merged merged;
	struct ckpt_err err;
	struct fold_result result;
};

static int fold_merge(struct fold *f)
{
	/* One thread: what is left of the machine is for the program. */
	struct image_merge_how how = {
		.pack = f->pack, .threads = 1, .cancel = &f->cancel, .moves = &f->moves
	};
	int rc = ckpt_fault_fail("every.merge", E_IMAGE_WRITE, &f->err);

	if (!rc)
		rc = image_read(&f->img, f->from, &f->err);
	return rc ? rc : image_merge(&f->img, f->to, &how, NULL, &f->merged, &f->err);
}

static void *fold_main(void *arg)
{
	struct fold *f = arg;
	struct fold_result *r = &f->result;
	const struct sched_param none = { 0 };

	atomic_store(&f->tid, gettid());
	/* Whoever wakes up takes the processor from it at once, niceness alone has them wait. */
	if (sched_setscheduler(0, SCHED_IDLE, &none))
		(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_THREAD, 0, IOPRIO_LOWEST);
	r->rc = fold_merge(f);
	r->err = &f->err;
	r->img = &f->img;
	r->moves = &f->moves;
	r->base.path = f->to;
	r->base.pages.bytes = f->merged.pages_bytes;
	memcpy(r->base.id, f->merged.id, sizeof(r->base.id));
	atomic_store(&f->done, true);
	return NULL;
}

int fold_begin(struct fold **ret, const char *from, const char *to, enum pack_how pack,
	       struct ckpt_err *err)
{
	struct fold *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return ckpt_oom(err);
	f->img.dir_fd = -1;
	f->pack = pack;
	f->from = strdup(from);
	f->to = strdup(to);
	rc = f->from && f->to ? -quiet_thread(&f->thread, fold_main, f) : -ENOMEM;
	if (rc) {
		free(f->from);
		free(f->to);
		free(f);
		return ckpt_fail_errno(err, E_NOMEM, rc, "cannot start a thread");
	}
	*ret = f;
	return 0;
}

void fold_hurry(struct fold *f)
{
	const struct sched_param none = { 0 };
	int tid = atomic_load(&f->tid);

	/* It ends only when it is joined, so nobody else has its number. */
	if (!tid || fold_is_done(f))
		return;
	(void)sched_setscheduler(tid, SCHED_OTHER, &none);
	(void)setpriority(PRIO_PROCESS, (id_t)tid, getpriority(PRIO_PROCESS, 0));
}

bool fold_is_done(const struct fold *f)
{
	return atomic_load(&f->done);
}

const struct fold_result *fold_result(const struct fold *f)
{
	return &f->result;
}

struct fold *fold_end(struct fold *f)
{
	if (!f)
		return NULL;
	atomic_store(&f->cancel, true);
	fold_hurry(f);
	(void)pthread_join(f->thread, NULL);
	image_free(&f->img);
	free(f->moves.v);
	free(f->from);
	free(f->to);
	free(f);
	return NULL;
}
