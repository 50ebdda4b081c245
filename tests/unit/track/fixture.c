// SPDX-License-Identifier: GPL-2.0-only
/* Starts a target, stops it, collects, and says what was seen. */
#include "track_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *self_path;

void tell(struct fixture *f, char what)
{
	char back = 0;

	assert_int_equal(write(f->to, &what, 1), 1);
	assert_int_equal(read(f->from, &back, 1), 1);
	assert_int_equal(back, what);
}

static void start(struct fixture *f)
{
	int to[2], from[2], fd;

	strcpy(f->file, "/tmp/track.XXXXXX");
	fd = mkstemp(f->file);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
	assert_int_equal(pwrite(fd, "file", 4, 0), 4);
	close(fd);
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	f->pid = fork();
	if (!f->pid) {
		close(to[1]);
		close(from[0]);
		target_main(to[0], from[1], f->file, self_path);
	}
	close(to[0]);
	close(from[1]);
	f->to = to[1];
	f->from = from[0];
	tell(f, 'n');
}

int setup(void **state)
{
	const struct backend *b = *state;
	struct fixture *f = calloc(1, sizeof(*f));

	f->ops = b->ops;
	f->facts = b->facts;
	f->t = TRACKER_NONE;
	start(f);
	*state = f;
	return 0;
}

int teardown(void **state)
{
	struct fixture *f = *state;

	tracker_detach(&f->t);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	close(f->to);
	close(f->from);
	unlink(f->file);
	free(f);
	return 0;
}

int note(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct seen *s = arg;

	for (uint64_t i = 0; i < npages; i++) {
		uint64_t at = (addr - s->base) / PAGE + i;

		assert_true(at < sizeof(s->map));
		assert_int_equal(s->map[at], 0);
		s->map[at] = flags & TRACK_GUARD   ? 'g'
			     : flags & TRACK_ZERO    ? 'z'
			     : flags & TRACK_WRITTEN ? 'w'
						     : 'c';
	}
	return 0;
}

int attach_it(struct fixture *f, struct target *tg, struct ckpt_err *err)
{
	int rc = tracker_attach(&f->t, f->ops, &tg->tasks.v[0], err);

	f->t.facts = f->facts;
	return rc;
}

/* Freeze, collect with arm, thaw. */
int pass(struct fixture *f, bool attach, char *base, size_t len, struct seen *s)
{
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	int rc = target_freeze(&tg, f->pid, &err);

	if (rc)
		fail_msg("%s: %s", err.where, err.msg);
	memset(s, 0, sizeof(*s));
	s->base = (uintptr_t)base;
	if (attach && attach_it(f, &tg, &err))
		fail_msg("%s: %s", err.where, err.msg);
	rc = tracker_begin(&f->t);
	if (!rc)
		rc = tracker_collect(&f->t, (uintptr_t)base, (uintptr_t)base + len,
				     TRACK_ARM | (base == FILEMAP ? 0 : TRACK_ANON), note, s);
	if (!rc)
		rc = tracker_armed(&f->t);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	return rc;
}

bool exact(const struct fixture *f)
{
	return f->ops != &track_none;
}

void arm_base(struct fixture *f, struct seen *s)
{
	assert_int_equal(pass(f, true, BASE, PAGES * PAGE, s), 0);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(s->map[i], 'w');
}

/* Page @at of BASE is written; others in [0, PAGES) are as given. */
void expect(const struct fixture *f, const struct seen *s, const char *written, int gone, int ngone)
{
	for (int i = 0; i < PAGES; i++) {
		bool w = false;

		for (const char *p = written; *p; p++)
			w |= i == *p;
		if (i >= gone && i < gone + ngone && !w)
			assert_int_equal(s->map[i], 0);
		else if (w || !exact(f))
			assert_int_equal(s->map[i], 'w');
		else
			assert_int_equal(s->map[i], 'c');
	}
}
