// SPDX-License-Identifier: GPL-2.0-only
#include "kern/mmwatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "kern/trial.h"

#define PAGE 4096u

/* ---- the programs --------------------------------------------------------------------------- */

/* Their arguments: { struct bpf_iter_meta { seq, … } *, task * } and the same with a vma * behind,
 * NULL at the end. */
#define ARG_TASK 8
#define ARG_VMA 16

struct writers_entry {
	uint64_t start, writers;
};

#define STAMP(member) ((int)offsetof(struct mm_stamp, member) - (int)sizeof(struct mm_stamp))
#define ENTRY(member)                                                                              \
	((int)offsetof(struct writers_entry, member) - (int)sizeof(struct writers_entry))
#define WORK (-(int)sizeof(struct writers_entry) - 8)

static int stamp_program(struct btf *types)
{
	const int mm = btf_offset(types, btf_struct(types, "task_struct"), "mm"),
		  seq = btf_offset(types, btf_struct(types, "mm_struct"), "mm_lock_seq");
	const uint32_t func = btf_find(types, BTF_KIND_FUNC, "bpf_iter_task");
	struct bpf_program p = { 0 };

	if (!func || mm < 0 || seq < 0)
		return -EOPNOTSUPP;
	bpf_put_begin(&p, ARG_TASK);
	BPF_PUT(&p, FETCH(STAMP(mm), 8, 7, mm), LOAD(8, 10, STAMP(mm)),
		FETCH(STAMP(seq), 4, 8, seq));
	bpf_put_write(&p, sizeof(struct mm_stamp));
	bpf_put_leave(&p);
	return bpf_program_load(&p, "ckpt_mm_stamp", func);
}

static int writers_program(struct btf *types)
{
	const uint32_t vma = btf_struct(types, "vm_area_struct"),
		       func = btf_find(types, BTF_KIND_FUNC, "bpf_iter_task_vma");
	const int start = btf_offset(types, vma, "vm_start"),
		  file = btf_offset(types, vma, "vm_file"),
		  mapping = btf_offset(types, btf_struct(types, "file"), "f_mapping"),
		  writers =
			  btf_offset(types, btf_struct(types, "address_space"), "i_mmap_writable");
	struct bpf_program p = { 0 };

	if (!func || start < 0 || file < 0 || mapping < 0 || writers < 0)
		return -EOPNOTSUPP;
	bpf_put_begin(&p, ARG_VMA);
	BPF_PUT(&p, FETCH(ENTRY(start), 8, 7, start), FETCH(WORK, 8, 7, file), LOAD(8, 10, WORK),
		FETCH(WORK, 8, 8, mapping), LOAD(8, 10, WORK),
		FETCH(ENTRY(writers), 4, 8, writers));
	bpf_put_write(&p, sizeof(struct writers_entry));
	bpf_put_leave(&p);
	return bpf_program_load(&p, "ckpt_writers", func);
}

int mm_stamp_read(const struct mm_watch *w, int pid, struct mm_stamp *ret)
{
	static const struct bpf_iter_records as = { .bytes = sizeof(*ret), .max = 1 };
	void *v = NULL;
	size_t n = 0;
	int rc = w->stamp_fd < 0 ? -EOPNOTSUPP
				 : bpf_iter_read(w->stamp_fd, BPF_ITER_THREAD, pid, &as, &v, &n);

	if (!rc)
		memcpy(ret, v, sizeof(*ret));
	free(v);
	return rc ? rc : ret->mm ? 0 : -ESRCH;
}

/* Behind the last mapping the iterator may begin again (kern/vmaiter.c). */
static bool ascends(const void *buf, size_t len, size_t n)
{
	const struct writers_entry *e =
		(const struct writers_entry *)(const void *)((const char *)buf + len);

	return n >= sizeof(*e) && (!len || e[0].start > e[-1].start);
}

int map_writers_read(const struct mm_watch *w, int pid, uint64_t start, uint64_t *ret)
{
	static const struct bpf_iter_records as = { .bytes = sizeof(struct writers_entry),
						    .max = SIZE_MAX,
						    .more = ascends };
	const struct writers_entry *e;
	void *v = NULL;
	size_t n = 0;
	int rc = w->writers_fd < 0
			 ? -EOPNOTSUPP
			 : bpf_iter_read(w->writers_fd, BPF_ITER_THREAD, pid, &as, &v, &n);

	if (rc)
		return rc;
	e = bpf_record_find(v, n, sizeof(*e), start);
	if (e)
		*ret = e->writers;
	free(v);
	return e ? 0 : -ENOENT;
}

/* ---- do they tell what they should? --------------------------------------------------------- */

/* What a child does with a shared page, one thing after another. */
struct player {
	char *page, *twin;
};

static bool act(void *arg, int step)
{
	struct player *p = arg;
	pid_t child;

	switch (step) {
	case 0:
		*(volatile char *)p->page = 1;
		return true;
	case 1:
		p->twin = mremap(p->page, 0, PAGE, MREMAP_MAYMOVE);
		return p->twin != MAP_FAILED;
	case 2:
		return !munmap(p->twin, PAGE);
	case 3:
		return !mprotect(p->page, PAGE, PROT_READ);
	default:
		child = fork();
		if (!child)
			_exit(0);
		return child > 0 && waitpid(child, NULL, 0) == child;
	}
}

/* Does each move the stamp on, and how many may write then? */
static const struct {
	bool moves;
	uint64_t writers;
} acts[] = {
	{ .writers = 1 },
	{ .moves = true, .writers = 2 },
	{ .moves = true, .writers = 1 },
	{ .moves = true, .writers = 1 },
	{ .moves = true, .writers = 1 },
};

static bool watch(const struct mm_watch *w, const struct trial *t, char *page)
{
	struct mm_stamp last, now;
	uint64_t writers;

	if (mm_stamp_read(w, t->pid, &last))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
		if (!trial_step(t, (int)i) || mm_stamp_read(w, t->pid, &now) || now.mm != last.mm ||
		    (now.seq != last.seq) != acts[i].moves ||
		    map_writers_read(w, t->pid, (uint64_t)page, &writers) ||
		    writers != acts[i].writers)
			return false;
		last = now;
	}
	return true;
}

static int check(const struct mm_watch *w)
{
	struct player p = { .page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
	struct trial t;
	bool ok;
	int rc;

	if (p.page == MAP_FAILED)
		return -errno;
	rc = trial_begin(&t, act, &p);
	/* The child's alone. */
	(void)munmap(p.page, PAGE);
	if (rc)
		return rc;
	ok = watch(w, &t, p.page);
	trial_end(&t);
	return ok ? 0 : -EOPNOTSUPP;
}

int mm_watch_open(struct mm_watch *ret, struct btf *types)
{
	int rc = btf_load(types);

	*ret = MM_WATCH_NONE;
	if (rc || ckpt_fault("kern.mmwatch"))
		return rc ? rc : -EOPNOTSUPP;
	ret->stamp_fd = stamp_program(types);
	ret->writers_fd = ret->stamp_fd < 0 ? -1 : writers_program(types);
	rc = ret->stamp_fd < 0 ? ret->stamp_fd : ret->writers_fd < 0 ? ret->writers_fd : check(ret);
	if (rc)
		mm_watch_close(ret);
	return rc;
}

void mm_watch_close(struct mm_watch *w)
{
	if (w->stamp_fd >= 0)
		(void)close(w->stamp_fd);
	if (w->writers_fd >= 0)
		(void)close(w->writers_fd);
	*w = MM_WATCH_NONE;
}
