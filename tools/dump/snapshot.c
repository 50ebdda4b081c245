// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which address spaces are copied from a snapshot while the target runs on, instead
 * of while it stands still: large ones of a target that is to go on, when there is
 * memory for the pages that it changes meanwhile. An increment may be read from what
 * its tracker keeps, everything from a fork of the target. Whatever speaks against
 * it leads to the plain copy, never to an error.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/procfs.h"
#include "task_traits.pb-c.h"
#include "track/track.h"

#define UNLIMITED (1ull << 60) /* version 1 writes a number near 2^63 */
/* A snapshot costs the page tables of all memory, copying costs the pages that are saved. Estimate:
 * a fork takes as long as copying a sixteenth of what it shares into the stage (stage.c), or a
 * forty-eighth into the image, where it has no room. */
#define FORK_RATIO 16
#define FORK_RATIO_UNSTAGED 48
#define WORTH_BYTES (8u << 20) /* less is copied about as fast as page tables are */
#define WORTH_PACKING (1u << 20)
#define WORTH_KEPT (256u << 10) /* no fork to be made, and the pages fault anyway */

/* Is there memory for a second copy of @bytes? */
static bool machine_has_room(uint64_t bytes)
{
	auto_free char *text = NULL;
	uint64_t kib = 0;

	if (io_read_file(AT_FDCWD, "/proc/meminfo", &text) < 0 ||
	    !proc_field_num(text, "MemAvailable", 0, 10, &kib))
		return false;
	return kib << 10 > bytes + bytes / 4 + (64u << 20);
}

static bool read_bytes(const char *dir, const char *name, uint64_t *ret)
{
	char path[PATH_MAX];
	auto_free char *text = NULL;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (io_read_file(AT_FDCWD, path, &text) < 0)
		return false;
	*ret = !strncmp(text, "max", 3) ? UINT64_MAX : strtoull(text, NULL, 10);
	return true;
}

/* From @own below @root up: does every limit leave room? */
static bool way_up_has_room(const char *root, const char *own, const char *limit, const char *usage,
			    uint64_t bytes)
{
	char dir[PATH_MAX];

	(void)snprintf(dir, sizeof(dir), "%s%s", root, own);
	for (;;) {
		uint64_t max, now;
		char *slash;

		if (read_bytes(dir, limit, &max) && max < UNLIMITED &&
		    (!read_bytes(dir, usage, &now) || now > max || max - now < bytes + bytes / 4))
			return false;
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < strlen(root))
			return true;
		*slash = 0;
	}
}

/* Pages that the target changes are charged to its cgroup, of version 1 or 2. */
static bool cgroup_has_room(int pid, uint64_t bytes)
{
	static const struct {
		const char *line, *type, *option, *limit, *usage;
	} kinds[] = {
		{ "0::/", " cgroup2 ", " cgroup2 ", "memory.max", "memory.current" },
		{ ":memory:/", " cgroup ", ",memory", "memory.limit_in_bytes",
		  "memory.usage_in_bytes" },
	};
	auto_free char *text = NULL, *mounts = NULL;
	struct ckpt_err ignore = { 0 };

	if (proc_read(pid, "cgroup", &text, NULL, &ignore) ||
	    io_read_file(AT_FDCWD, "/proc/self/mounts", &mounts) < 0)
		return false;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		const char *own = strstr(text, kinds[k].line);
		char path[1024], root[1024];

		if (!own)
			continue;
		own = strchr(own, '/');
		(void)snprintf(path, sizeof(path), "%.*s", (int)strcspn(own, "\n"), own);
		for (const char *l = mounts; *l; l += strcspn(l, "\n"), l += *l ? 1 : 0) {
			char line[2048];

			(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(l, "\n"), l);
			if (!strstr(line, kinds[k].type) || !strstr(line, kinds[k].option) ||
			    sscanf(line, "%*s %1023s", root) != 1)
				continue;
			if (!way_up_has_room(root, path, kinds[k].limit, kinds[k].usage, bytes))
				return false;
			break;
		}
	}
	return true;
}

/* A subreaper of the tree would be given the copy for a child. */
static bool adopted_by_tree(const struct dump_ctx *d)
{
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.v[i]->n_state; k++) {
			const Ckpt__State *st = d->tasks.v[i]->state[k];
			struct ckpt_err ignore = { 0 };
			Ckpt__TaskTraits *m;
			bool reaper;

			if (strcmp(st->kind, "task-traits") != 0)
				continue;
			m = kind_state_unpack(st, &ckpt__task_traits__descriptor, &ignore);
			reaper = !m || m->child_subreaper;
			if (m)
				ckpt__task_traits__free_unpacked(m, NULL);
			if (reaper)
				return true;
		}
	return false;
}

/* A filter may forbid what makes a copy. */
static bool filtered(int pid)
{
	auto_free char *status = NULL;
	struct ckpt_err ignore = { 0 };
	uint64_t mode = 1;

	return proc_read(pid, "status", &status, NULL, &ignore) ||
	       !proc_field_num(status, "Seccomp", 0, 10, &mode) || mode;
}

static struct target_task *task_of(struct dump_ctx *d, int pid)
{
	for (size_t i = 0; i < d->target.tasks.n; i++)
		if (d->target.tasks.v[i].pid == pid)
			return &d->target.tasks.v[i];
	return NULL;
}

/* Private memory of a task that is there, whose page tables a fork copies. */
static uint64_t private_bytes(int pid)
{
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };
	unsigned long long resident = 0, shared = 0;

	if (proc_read(pid, "statm", &text, NULL, &ignore) ||
	    sscanf(text, "%*u %llu %llu", &resident, &shared) != 2 || shared > resident)
		return 0;
	return (resident - shared) * CKPT_PAGE;
}

/* Read what the tracker of @p keeps when the target runs again. False: it keeps too little. */
static bool use_kept(struct dump_ctx *d, const struct dump_pages *p)
{
	struct snapshot *snap;
	uint64_t bytes = 0, room = 0;
	int fd = -1;

	if (!p->keeper || tracker_kept(p->keeper, &fd, &room))
		return false;
	for (size_t k = p->first_seg; k < p->first_seg + p->nsegs; k++)
		if (!d->segs.v[k].frozen && !d->segs.v[k].unkept)
			bytes += (uint64_t)d->segs.v[k].npages * CKPT_PAGE;
	snap = bytes >= WORTH_KEPT && bytes <= room * CKPT_PAGE ? vec_push(&d->snapshots) : NULL;
	if (!snap) {
		(void)close(fd);
		return false;
	}
	*snap = (struct snapshot) { .mem_fd = fd };
	for (size_t k = p->first_seg; k < p->first_seg + p->nsegs; k++)
		if (!d->segs.v[k].frozen && !d->segs.v[k].unkept) {
			d->segs.v[k].fd = fd;
			d->segs.v[k].later = true;
		}
	ui_note(d->ui, 1, "task %d: %llu pages are read from what its tracker keeps", p->pid,
		(unsigned long long)(bytes / CKPT_PAGE));
	return true;
}

static uint64_t ratio(const struct dump_ctx *d, uint64_t bytes)
{
	return bytes <= d->stage.bytes ? FORK_RATIO : FORK_RATIO_UNSTAGED;
}

int dump_take_snapshots(struct dump_ctx *d, struct ckpt_err *err)
{
	const uint64_t worth = d->opts->compress == PACK_HOW_NONE ? WORTH_BYTES : WORTH_PACKING;
	bool asked = false, adopted = false;
	uint64_t all = 0;
	int rc;

	if (d->opts->end != TARGET_RUN)
		return 0;
	for (size_t i = 0; i < d->pages.n; i++) {
		const struct dump_pages *p = &d->pages.v[i];
		struct ckpt_err why = { 0 };
		struct snapshot *snap;
		uint64_t bytes = 0;

		if (use_kept(d, p))
			continue;
		for (size_t k = p->first_seg; p->mm && k < p->first_seg + p->nsegs; k++)
			if (!d->segs.v[k].frozen)
				bytes += (uint64_t)d->segs.v[k].npages * CKPT_PAGE;
		if (bytes < worth || bytes < private_bytes(p->pid) / ratio(d, bytes))
			continue;
		if (!asked)
			adopted = adopted_by_tree(d);
		asked = true;
		if (adopted || filtered(p->pid) || !machine_has_room(all + bytes) ||
		    !cgroup_has_room(p->pid, all + bytes))
			continue;
		snap = vec_push(&d->snapshots);
		if (!snap)
			continue;
		if (snapshot_take(snap, task_of(d, p->pid), &why)) {
			ui_note(d->ui, 1, "task %d: its memory is copied while it stands still: %s",
				p->pid, why.msg);
			d->snapshots.n--;
			continue;
		}
		all += bytes;
		for (size_t k = p->first_seg; k < p->first_seg + p->nsegs; k++)
			if (!d->segs.v[k].frozen) {
				d->segs.v[k].fd = snap->mem_fd;
				d->segs.v[k].later = true;
			}
	}
	if ((rc = ckpt_fault("dump.snapshot")))
		return ckpt_fail_errno(err, E_FREEZE, rc, "fault point dump.snapshot");
	return 0;
}

void dump_drop_snapshots(struct dump_ctx *d)
{
	/* Freeing a large one takes a while, and needs nobody: who traced it does not matter, it
	 * is its parent that reaps it. */
	for (size_t i = 0; i < d->snapshots.n; i++)
		if (d->opts->last)
			snapshot_kill(&d->snapshots.v[i]);
		else
			snapshot_drop(&d->snapshots.v[i]);
	d->snapshots.n = 0;
}
