// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/arch.h"
#include "kern/procfs.h"
#include "kind/kind.h"
#include "migrate/wire.h"

#define FILES_MAX 4096u
#define BLOCKERS_MAX 256u

static uint64_t mtime_ns(const struct stat *st)
{
	return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

/* ---- the source ------------------------------------------------------------------------- */

static int add_pid(Ckpt__MigOffer *o, int pid)
{
	if (!(o->n_pids & (o->n_pids - 1))) {
		int32_t *p = reallocarray(o->pids, o->n_pids ? o->n_pids * 2 : 1, sizeof(*p));

		if (!p)
			return -ENOMEM;
		o->pids = p;
	}
	o->pids[o->n_pids++] = pid;
	return 0;
}

/* The file behind a mapping. */
static int map_stat(int pid, const struct proc_vma *v, struct stat *ret)
{
	char path[PROC_MAP_PATH];

	proc_map_path(pid, v->start, v->end, path);
	return stat(path, ret);
}

static int add_file(Ckpt__MigOffer *o, int pid, const struct proc_vma *v, struct ckpt_err *err)
{
	Ckpt__MigFile *f;
	struct stat st;
	int rc;

	if (!v->path || v->path[0] != '/' || !v->ino || strstr(v->path, " (deleted)") ||
	    !strncmp(v->path, "/memfd:", 7) || !strncmp(v->path, "/dev/", 5) ||
	    !strncmp(v->path, "/SYSV", 5) || o->n_files >= FILES_MAX)
		return 0;
	/* Mappings of one file follow each other. */
	if (o->n_files && !strcmp(o->files[o->n_files - 1]->path, v->path))
		return 0;
	if (map_stat(pid, v, &st))
		return 0;
	f = kind_msg_new(&ckpt__mig_file__descriptor);
	if (!f || kind_push(&o->n_files, &o->files, f))
		return ckpt_oom(err);
	rc = proc_map_link(pid, v, &f->path, err);
	if (rc)
		return rc;
	f->bytes = (uint64_t)st.st_size;
	f->mtime_ns = mtime_ns(&st);
	/* What may be written through the mapping changes on its own. */
	f->mapped = !(v->shared && (v->flags & PROC_VMF(mw)));
	return 0;
}

/* Memory that several processes may share: each counts once. */
struct shared_seen {
	struct {
		dev_t dev;
		ino_t ino;
	} * v;
	size_t n, cap;
};

/* Shared memory travels when no name leads to it: anonymous, memory files, segments. It takes at
 * the peer what it takes here, mapped or not. */
static int add_shared(Ckpt__MigOffer *o, struct shared_seen *seen, int pid,
		      const struct proc_vma *v, struct ckpt_err *err)
{
	struct stat st;

	if (!v->shared || !v->path || !proc_name_deleted(v->path) || v->flags & PROC_VMF(ht))
		return 0;
	if (map_stat(pid, v, &st))
		return 0;
	for (size_t i = 0; i < seen->n; i++)
		if (seen->v[i].dev == st.st_dev && seen->v[i].ino == st.st_ino)
			return 0;
	if (!vec_push(seen))
		return ckpt_oom(err);
	seen->v[seen->n - 1].dev = st.st_dev;
	seen->v[seen->n - 1].ino = st.st_ino;
	o->memory_bytes += (uint64_t)st.st_blocks * 512;
	return 0;
}

static int offer_memory(Ckpt__MigOffer *o, struct shared_seen *seen, int pid, struct ckpt_err *err)
{
	struct proc_vmas vmas = { 0 };
	auto_free char *rollup = NULL;
	struct ckpt_err none = { 0 };
	uint64_t kb = 0;
	int rc = proc_vmas_read(pid, NULL, &vmas, err);

	for (size_t i = 0; !rc && i < vmas.n; i++) {
		rc = add_file(o, pid, &vmas.v[i], err);
		if (!rc)
			rc = add_shared(o, seen, pid, &vmas.v[i], err);
		if (vmas.v[i].path && !strcmp(vmas.v[i].path, "[vdso]"))
			o->vdso_bytes = (uint32_t)(vmas.v[i].end - vmas.v[i].start);
	}
	proc_vmas_free(&vmas);
	if (rc)
		return rc;
	/* Of pages that several share, each its part. Who has ended has none. */
	if (proc_read(pid, "smaps_rollup", &rollup, NULL, &none))
		return 0;
	if (proc_field_num(rollup, "Pss_Anon", 0, 10, &kb))
		o->memory_bytes += kb * 1024;
	if (proc_field_num(rollup, "SwapPss", 0, 10, &kb))
		o->memory_bytes += kb * 1024;
	return 0;
}

static int offer_task(Ckpt__MigOffer *o, struct shared_seen *seen, int pid, struct ckpt_err *err)
{
	struct proc_pids tids = { 0 }, kids = { 0 };
	int rc = proc_threads(pid, &tids, err);

	for (size_t i = 0; !rc && i < tids.n; i++) {
		int inner;

		rc = proc_inner_pid(pid, tids.v[i], &inner, NULL, err);
		if (!rc && add_pid(o, inner))
			rc = ckpt_oom(err);
		if (rc && err->id == E_TARGET_GONE && tids.v[i] != pid) { /* a thread ended */
			ckpt_err_clear(err);
			rc = 0;
		}
	}
	if (!rc)
		rc = offer_memory(o, seen, pid, err);
	if (!rc)
		rc = proc_children(pid, NULL, &kids, err);
	for (size_t i = 0; !rc && i < kids.n; i++) {
		struct ckpt_err gone = { 0 };
		struct proc_stat st;

		if (proc_stat_read(kids.v[i], &st, &gone) || st.state == 'Z')
			continue;
		rc = offer_task(o, seen, kids.v[i], &gone);
		if (rc && gone.id != E_TARGET_GONE)
			*err = gone;
		else
			rc = 0;
	}
	vec_free(&tids);
	vec_free(&kids);
	return rc;
}

Ckpt__MigOffer *preflight_offer(const struct migrate_opts *opts, const uint8_t *id,
				struct ckpt_err *err)
{
	int pid = opts->pid;
	Ckpt__MigOffer *o = kind_msg_new(&ckpt__mig_offer__descriptor);
	struct shared_seen seen = { 0 };
	struct proc_stat st;
	int rc = o ? proc_stat_read(pid, &st, err) : ckpt_oom(err);

	if (!rc) {
		o->id.data = malloc(MIG_ID_BYTES);
		o->name = strdup(st.comm);
		o->ipc = preflight_ns_name("ipc");
		rc = o->id.data && o->name && o->ipc ? 0 : ckpt_oom(err);
	}
	if (!rc) {
		memcpy(o->id.data, id, MIG_ID_BYTES);
		o->id.len = MIG_ID_BYTES;
		o->xfeatures = arch_xfeatures();
		rc = proc_inner_pid(pid, pid, &o->root, NULL, err);
		o->lone_sid = dump_lone_sid(pid);
		o->check_only = opts->check_only;
		o->track = opts->track;
	}
	if (!rc)
		rc = offer_task(o, &seen, pid, err);
	vec_free(&seen);
	if (!rc)
		return o;
	if (o)
		ckpt__mig_offer__free_unpacked(o, NULL);
	return NULL;
}

/* ---- the peer --------------------------------------------------------------------------- */

int preflight_blocker(Ckpt__MigAnswer *a, const struct ckpt_err *why)
{
	Ckpt__MigError *m;

	/* A thousand connections have one reason. */
	for (size_t i = 0; i < a->n_blockers; i++)
		if (i == BLOCKERS_MAX || !strcmp(a->blockers[i]->message, why->msg))
			return 0;
	m = kind_msg_new(&ckpt__mig_error__descriptor);
	if (!m || kind_push(&a->n_blockers, &a->blockers, m))
		return -ENOMEM;
	m->id = strdup(ckpt_err_name(why->id));
	m->code = why->code;
	m->message = strdup(why->msg);
	m->where = strdup(why->where);
	m->remedy = strdup(ckpt_err_remedy(why));
	return m->id && m->message && m->where && m->remedy ? 0 : -ENOMEM;
}

static int check_pid(Ckpt__MigAnswer *a, int pid)
{
	struct ckpt_err e = { 0 }, ignore = { 0 };
	struct proc_stat st;

	if (pid <= 0 || (kill(pid, 0) && errno == ESRCH))
		return 0;
	if (proc_stat_read(pid, &st, &ignore))
		(void)snprintf(st.comm, sizeof(st.comm), "another task");
	(void)ckpt_fail(&e, E_PID_TAKEN, -EEXIST, "pid %d belongs to \"%s\"", pid, st.comm);
	(void)ckpt_remedy(&e,
			  "stop it there, or give the peer a pid namespace of its own: unshare -fp "
			  "--mount-proc ckpt receive …");
	return preflight_blocker(a, &e);
}

static int check_file(Ckpt__MigAnswer *a, const Ckpt__MigFile *f)
{
	struct ckpt_err e = { 0 };
	struct stat st;

	if (f->path[0] != '/')
		return 0;
	if (stat(f->path, &st))
		(void)ckpt_fail_errno(&e, E_FILE_CHANGED, -errno, "the file %s is not there",
				      f->path);
	else if (f->mapped && ((uint64_t)st.st_size != f->bytes || mtime_ns(&st) != f->mtime_ns))
		(void)ckpt_fail(&e, E_FILE_CHANGED, -ESTALE, "the file %s is another one there",
				f->path);
	else
		return 0;
	(void)ckpt_remedy(
		&e, "copy it to the peer with its times: cp -p, rsync -t, or the same package");
	return preflight_blocker(a, &e);
}

static uint64_t memory_available(void)
{
	auto_free char *text = NULL;
	uint64_t kb = 0;

	if (io_read_file(AT_FDCWD, "/proc/meminfo", &text) > 0)
		(void)proc_field_num(text, "MemAvailable", 0, 10, &kb);
	return kb * 1024;
}

static uint32_t vdso_bytes(void)
{
	auto_free char *maps = NULL;
	uint64_t start, end;

	if (io_read_file(AT_FDCWD, "/proc/self/maps", &maps) < 0 ||
	    !proc_map_find(maps, "[vdso]", &start, &end))
		return 0;
	return (uint32_t)(end - start);
}

/* Its first checkpoint needs a place, on a file system that is there to stay. */
static int check_track(const char *dir, Ckpt__MigAnswer *ret)
{
	struct ckpt_err e = { 0 };

	if (!dir) {
		(void)ckpt_fail(&e, E_TRACK, -ENOENT, "there is no place for checkpoints here");
		(void)ckpt_remedy(&e, "name one: ckpt receive --keep-image DIR");
	} else if (access(dir, W_OK | X_OK)) {
		(void)ckpt_fail_errno(&e, E_TRACK, -errno, "cannot keep a checkpoint below %s",
				      dir);
		(void)ckpt_remedy(&e, "make the directory");
	} else {
		return 0;
	}
	return preflight_blocker(ret, &e);
}

int preflight_check(const Ckpt__MigOffer *o, bool hooked, const char *keep_image,
		    Ckpt__MigAnswer *ret, struct ckpt_err *err)
{
	uint64_t missing = o->xfeatures & ~arch_xfeatures();
	struct ckpt_err e = { 0 };
	int rc = 0;

	ret->memory_bytes = memory_available();
	if (missing) {
		(void)ckpt_fail(&e, E_CPU, -EOPNOTSUPP,
				"this CPU lacks register sets that the program may use (XSAVE "
				"components %#llx)",
				(unsigned long long)missing);
		rc = preflight_blocker(ret, &e);
		ckpt_err_clear(&e);
	}
	if (!rc && o->vdso_bytes && o->vdso_bytes != vdso_bytes()) {
		(void)ckpt_fail(&e, E_KERNEL, -EOPNOTSUPP,
				"this kernel's [vdso] has %u bytes, that of the program %u",
				vdso_bytes(), o->vdso_bytes);
		(void)ckpt_remedy(&e, "run the same kernel on both nodes");
		rc = preflight_blocker(ret, &e);
		ckpt_err_clear(&e);
	}
	if (!rc && ret->memory_bytes && o->memory_bytes > ret->memory_bytes) {
		(void)ckpt_fail(&e, E_NOMEM, -ENOMEM, "the program has %llu MiB, %llu MiB are free",
				(unsigned long long)(o->memory_bytes >> 20),
				(unsigned long long)(ret->memory_bytes >> 20));
		rc = preflight_blocker(ret, &e);
	}
	if (!rc && o->track)
		rc = check_track(keep_image, ret);
	for (size_t i = 0; !rc && i < o->n_pids; i++)
		rc = check_pid(ret, o->pids[i]);
	for (size_t i = 0; !rc && i < o->n_files; i++)
		rc = check_file(ret, o->files[i]);
	if (!rc)
		rc = preflight_check_network(o, hooked, ret);
	return rc ? ckpt_oom(err) : 0;
}

void preflight_answer_free(Ckpt__MigAnswer *a)
{
	for (size_t i = 0; i < a->n_blockers; i++)
		ckpt__mig_error__free_unpacked(a->blockers[i], NULL);
	free(a->blockers);
	a->blockers = NULL;
	a->n_blockers = 0;
}
