// SPDX-License-Identifier: GPL-2.0-only
/*
 * How pages come into the memory of a process-to-be, and are read from it. Those that are new come
 * by a userfaultfd: the kernel allocates a page and copies into it, and need not clear it first or
 * take a fault. Nothing is ever waited for on its account: who touches what has not come fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "kern/pagemap.h"
#include "restore/mm.h"
#include "restore/warm.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* The task shares ckpt's descriptors: what it makes is ours. */
int warm_uffd_open(struct restore_ctx *r, struct warm_task *w, struct ckpt_err *err)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS };
	struct steps s;
	uint32_t at;
	int rc;

	warm_steps(r, &s);
	at = steps_try(&s, "make a userfaultfd", SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	rc = warm_run(r, w, &s, err);
	steps_free(&s);
	if (rc)
		return rc;
	w->uffd = (int)slot_ret(&r->arena, w->slot, at);
	if (w->uffd >= 0 && ioctl(w->uffd, UFFDIO_API, &api))
		warm_uffd_close(w);
	return 0;
}

void warm_uffd_close(struct warm_task *w)
{
	if (w->uffd >= 0)
		(void)close(w->uffd);
	w->uffd = -1;
}

void warm_uffd_register(struct warm_task *w, const Ckpt__Mm *mm)
{
	for (size_t i = 0; w->uffd >= 0 && i < mm->n_vmas; i++) {
		struct uffdio_register reg = {
			.range = { mm->vmas[i]->start, mm->vmas[i]->end - mm->vmas[i]->start },
			.mode = UFFDIO_REGISTER_MODE_MISSING,
		};

		/* Without it pages come as any other write. */
		(void)ioctl(w->uffd, UFFDIO_REGISTER, &reg);
	}
}

/* The first mapping that ends behind @at. */
static size_t find_vma(const Ckpt__Mm *mm, uint64_t at)
{
	size_t low = 0, high = mm->n_vmas;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (mm->vmas[mid]->end <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool restore_warm_has(const struct warm_task *w, uint64_t start, uint64_t end)
{
	const Ckpt__Mm *mm = &w->mm;

	for (size_t i = find_vma(mm, start); i < mm->n_vmas && mm->vmas[i]->start <= start; i++) {
		start = mm->vmas[i]->end;
		if (start >= end)
			return true;
	}
	return false;
}

int restore_warm_read(const struct warm_task *w, uint64_t addr, void *data, size_t len)
{
	int rc = io_pread_full(w->mem_fd, data, len, addr);

	/* It has not come: as if nobody had written there. */
	if (rc && w->uffd >= 0 && restore_warm_has(w, addr, addr + len)) {
		memset(data, 0, len);
		rc = 0;
	}
	return rc;
}

/* New pages, up to one that is there already; how many bytes. */
static size_t copy_new(const struct warm_task *w, uint64_t addr, const char *data, size_t len)
{
	size_t i = find_vma(&w->mm, addr);
	const Ckpt__Vma *v = i < w->mm.n_vmas ? w->mm.vmas[i] : NULL;
	struct uffdio_copy c = { .dst = addr, .src = (uintptr_t)data, .len = len };
	size_t done = 0;

	if (w->uffd < 0 || !v || v->start > addr)
		return 0;
	/* The kernel wants it within one mapping. */
	if (c.len > v->end - addr)
		c.len = v->end - addr;
	while (ioctl(w->uffd, UFFDIO_COPY, &c) && (c.copy > 0 || errno == EAGAIN)) {
		size_t n = c.copy > 0 ? (size_t)c.copy : 0;

		done += n;
		c.dst += n;
		c.src += n;
		c.len -= n;
		c.copy = 0;
		if (errno != EAGAIN)
			return done;
	}
	return c.copy > 0 ? done + (size_t)c.copy : done;
}

/* Pages that are there already, up to one that is not. */
static size_t write_over(const struct warm_task *w, uint64_t addr, const char *data, size_t len)
{
	struct iovec from = { (void *)data, len }, to = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_writev(w->pid, &from, 1, &to, 1, 0);

	return n > 0 ? (size_t)n : 0;
}

int restore_warm_write(const struct warm_task *w, uint64_t addr, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		size_t n = copy_new(w, addr, p, len);

		if (!n)
			n = write_over(w, addr, p, len);
		/* Reservations, which nobody may write to. */
		if (!n) {
			int rc = io_pwrite_full(w->mem_fd, p, CKPT_PAGE, addr);

			if (rc)
				return rc;
			n = CKPT_PAGE;
		}
		addr += n;
		p += n;
		len -= n;
	}
	return 0;
}

/* ---- an heir: what it was born with --------------------------------------------------------- */

#define DROPS_MAX 16384u /* steps of a list */

struct present {
	bool *v;
	uint64_t start;
};

static int note_present(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct present *p = arg;

	for (uint64_t i = 0; !flags && i < npages; i++)
		p->v[(addr - p->start) / CKPT_PAGE + i] = true;
	return 0;
}

int restore_warm_present(const struct warm_task *w, uint64_t start, uint64_t npages, bool *ret)
{
	struct present p = { ret, start };
	struct pagemap pm;
	int rc = pagemap_open(&pm, w->pid);

	memset(ret, 0, npages * sizeof(*ret));
	if (rc)
		return rc;
	rc = pagemap_anon(&pm, start, start + npages * CKPT_PAGE, false, note_present, &p);
	pagemap_close(&pm);
	return rc;
}

static int drop(struct restore_ctx *r, struct warm_task *w, struct steps *s, uint64_t start,
		uint64_t end, struct ckpt_err *err)
{
	int rc = 0;

	if (start >= end)
		return 0;
	(void)steps_call(s, "drop pages of the parent", SYS_madvise, start, end - start,
			 MADV_DONTNEED);
	if (s->n >= DROPS_MAX) {
		rc = warm_run(r, w, s, err);
		steps_free(s);
		warm_steps(r, s);
	}
	return rc;
}

int restore_warm_keep(struct restore_ctx *r, struct warm_task *w, const struct mm_runs *keep,
		      struct ckpt_err *err)
{
	struct steps s;
	size_t k = 0;
	int rc = 0;

	warm_steps(r, &s);
	for (size_t i = 0; !rc && i < w->mm.n_vmas; i++) {
		uint64_t at = w->mm.vmas[i]->start, end = w->mm.vmas[i]->end;

		while (k < keep->n && keep->v[k].end <= at)
			k++;
		for (size_t n = k; !rc && n < keep->n && keep->v[n].start < end; n++) {
			rc = drop(r, w, &s, at, keep->v[n].start, err);
			if (keep->v[n].end > at)
				at = keep->v[n].end;
		}
		if (!rc)
			rc = drop(r, w, &s, at, end, err);
	}
	if (!rc && s.n)
		rc = warm_run(r, w, &s, err);
	steps_free(&s);
	return rc;
}
