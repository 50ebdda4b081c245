// SPDX-License-Identifier: GPL-2.0-only
/* The flow of a dump: check, freeze, collect, copy, thaw, commit. */
#include "dump/dump.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/standby.h"
#include "base/vec.h"
#include "dump/collect.h"
#include "dump/logged.h"
#include "dump/mm_ahead.h"
#include "dump/watch.h"
#include "kern/arch.h"
#include "kern/vdso.h"
#include "kind/fd/sockopt.h"
#include "kind/ipc.h"

uint64_t dump_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int put_records(struct dump_ctx *d, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < d->objects.n; i++)
		rc = image_put(&d->writer, CKPT_REC_OBJECT, &d->objects.v[i].msg->base, err);
	for (size_t i = 0; !rc && i < d->tables.n; i++)
		rc = image_put(&d->writer, CKPT_REC_FDTABLE, &d->tables.v[i]->base, err);
	for (size_t i = 0; !rc && i < d->mms.n; i++)
		rc = image_put(&d->writer, CKPT_REC_MM, &d->mms.v[i]->base, err);
	for (size_t i = 0; !rc && i < d->tasks.n; i++)
		rc = image_put(&d->writer, CKPT_REC_TASK, &d->tasks.v[i]->base, err);
	return rc;
}

/* As the target sees them. */
static int fill_clocks(struct dump_ctx *d, struct ckpt_err *err)
{
	Ckpt__Inventory *inv = &d->inv;
	struct timens_offsets its;
	int rc = timens_read(d->target.tasks.v[0].pid, &its, err);

	if (rc)
		return rc;
	inv->monotonic_offset_ns = its.monotonic_ns;
	inv->boottime_offset_ns = its.boottime_ns;
	inv->monotonic_ns =
		dump_clock_ns(CLOCK_MONOTONIC) + (uint64_t)(its.monotonic_ns - d->own.monotonic_ns);
	inv->boottime_ns =
		dump_clock_ns(CLOCK_BOOTTIME) + (uint64_t)(its.boottime_ns - d->own.boottime_ns);
	return 0;
}

static void fill_inventory(struct dump_ctx *d, struct utsname *un, char *boot_id)
{
	Ckpt__Inventory *inv = &d->inv;

	inv->program = (char *)"ckpt " CKPT_VERSION;
	inv->created_ns = dump_clock_ns(CLOCK_REALTIME);
	if (!uname(un)) {
		inv->hostname = un->nodename;
		inv->kernel = un->release;
		inv->machine = un->machine;
	}
	boot_id[strcspn(boot_id, "\n")] = 0;
	inv->boot_id = boot_id;
	inv->page_bytes = CKPT_PAGE;
	inv->root_pid = d->target.tasks.v[0].vpid;
	inv->nested_pids = d->target.nested_pids;
	/* Every process has the same: ours is as good as the target's. */
	inv->vdso.data = (uint8_t *)vdso_own(&inv->vdso.len);
	inv->xfeatures = arch_xfeatures();
	inv->stats = &d->stats;
}

/* A series asks again after so long: the system's defaults may be others by then. */
#define SOCKOPTS_US 1000000u

static void sockopts_begin(struct dump_ctx *d)
{
	struct dump_sockopts *kept = d->opts->series ? &d->opts->series->sockopts : NULL;
	uint64_t now = io_now_us();

	pthread_mutex_init(&d->sockopts_lock, NULL);
	/* What was found out before is without the places, if those are known since now. */
	if (kept && kept->placed == (d->iters.files.prog_fd >= 0) &&
	    now - kept->since_us < SOCKOPTS_US) {
		d->sockopts = *kept;
		*kept = (struct dump_sockopts) { 0 };
	} else {
		d->sockopts.since_us = now;
		d->sockopts.placed = d->iters.files.prog_fd >= 0;
	}
}

static void sockopts_end(struct dump_ctx *d)
{
	struct dump_sockopts *kept = d->opts->series ? &d->opts->series->sockopts : &d->sockopts;

	sockopts_forget(kept->all, kept->asked);
	if (kept != &d->sockopts) {
		sockopts_outlive(&d->sockopts.asked);
		*kept = d->sockopts;
	}
	pthread_mutex_destroy(&d->sockopts_lock);
}

void dump_end(struct dump_ctx *d)
{
	/* It was not begun. */
	if (!d->opts)
		return;
	image_abort(&d->writer);
	mm_ahead_free(d);
	dump_objects_free(d);
	for (size_t i = 0; i < d->tasks.n; i++)
		protobuf_c_message_free_unpacked(&d->tasks.v[i]->base, NULL);
	for (size_t i = 0; i < d->mms.n; i++)
		protobuf_c_message_free_unpacked(&d->mms.v[i]->base, NULL);
	for (size_t i = 0; i < d->tables.n; i++)
		protobuf_c_message_free_unpacked(&d->tables.v[i]->base, NULL);
	for (size_t i = 0; i < d->pages.n; i++) {
		free(d->pages.v[i].known);
		free(d->pages.v[i].hashes);
	}
	vec_free(&d->tasks);
	vec_free(&d->mms);
	vec_free(&d->tables);
	free(d->files.v);
	vec_free(&d->pages);
	vec_free(&d->segs);
	dump_drop_snapshots(d);
	vec_free(&d->snapshots);
	free(d->copied[0].zero);
	free(d->copied[1].zero);
	dump_stage_end(d);
	dump_pre_end(d);
	dump_watch_free(d);
	dump_log_free(d);
	dump_session_end(d);
	dump_net_free(d);
	sockopts_end(d);
	ipc_free(&d->namespaces);
	target_free(&d->target);
	told_end(d);
	if (d->opts->series) {
		d->opts->series->iters = d->iters;
		d->opts->series->connections = d->connections;
		d->opts->series->descriptors = d->descriptors;
	} else {
		dump_iters_close(&d->iters);
	}
	d->iters = DUMP_ITERS_NONE;
	free(d->boot_id);
	d->boot_id = NULL;
}

/* Thousands of duplicated descriptors want room; what the hard limit allows is ours. */
static void raise_nofile(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}

uint64_t dump_lap(uint64_t *lap)
{
	uint64_t now = io_now_us(), us = now - *lap;

	*lap = now;
	return us;
}

/* Of time that is foreseen, a little is lost by what is not. */
#define SLACK_US 200u

int dump_in_time(const struct dump_ctx *d, uint64_t more_us, struct ckpt_err *err)
{
	uint64_t us = io_now_us() - d->target.frozen_at_us;

	if (!d->opts->max_pause_us || d->opts->long_pause || d->opts->end != TARGET_RUN ||
	    us + more_us + SLACK_US <= d->opts->max_pause_us)
		return 0;
	return ckpt_fail(err, E_PAUSE, -ETIME,
			 "process %d would stand still for longer than %.12g ms (%.1f ms so far)",
			 d->opts->pid, (double)d->opts->max_pause_us / 1e3, (double)us / 1e3);
}

static int frozen_part(struct dump_ctx *d, struct ckpt_err *err)
{
	uint64_t at = io_now_us();
	int rc = ckpt_fault("dump.frozen");

	if (rc)
		return ckpt_fail_errno(err, E_FREEZE, rc, "fault point dump.frozen");
	d->stats.freeze_us = at - d->target.frozen_at_us;
	dump_watch_look(d, &d->target);
	dump_log_look(d);
	rc = dump_in_time(d, 0, err);
	if (!rc)
		rc = dump_net_lock(d, err);
	if (!rc)
		rc = dump_collect_tasks(d, err);
	if (!rc && (rc = ckpt_fault("dump.collected")))
		return ckpt_fail_errno(err, E_FREEZE, rc, "fault point dump.collected");
	d->stats.collect_us = io_now_us() - at;
	at = io_now_us();
	if (!rc)
		rc = dump_write_pages(d, err);
	dump_watch_settle(d);
	dump_log_settle(d);
	d->stats.pages_us = io_now_us() - at;
	return rc ? rc : dump_in_time(d, 0, err);
}

/* Of a program with little memory smaps is quicker than a way around it. */
#define ITER_PAGES (512u << 8)

static void find_iter(struct dump_ctx *d)
{
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };
	unsigned long long size, resident;

	if (d->iters.vma.prog_fd >= 0)
		return;
	if (d->opts->track || d->opts->parent)
		dump_session_iter(d->opts, &d->iters);
	else if (!proc_read(d->opts->pid, "statm", &text, NULL, &ignore) &&
		 sscanf(text, "%llu %llu", &size, &resident) == 2 && resident >= ITER_PAGES)
		(void)vma_iter_open(&d->iters.vma, &d->iters.types);
}

/* For fewer, asking each takes less than loading what sees them all. */
#define THREADS_SEEN 32u
#define THREADS_SEEN_LASTING 2u

bool dump_iters_threads(struct dump_iters *iters, size_t n, bool lasting)
{
	if (n < (lasting ? THREADS_SEEN_LASTING : THREADS_SEEN))
		return false;
	if (iters->threads.prog_fd < 0)
		(void)thread_iter_open(&iters->threads, &iters->types);
	return iters->threads.prog_fd >= 0;
}

/* A kernel that cannot tell will not learn it; one that has no memory just now may have some for
 * the next checkpoint. */
#define TRIES 3u

static bool worth_a_try(bool there, unsigned int *tries)
{
	return !there && (*tries)++ < TRIES;
}

/* To find out where their options are takes as long as to ask so many for them. */
#define CONNECTIONS_SEEN 1024u
#define CONNECTIONS_SEEN_LASTING 4u
#define DESCRIPTORS_SEEN_LASTING 32u

void dump_iters_files(struct dump_iters *iters, size_t connections, size_t descriptors,
		      bool lasting)
{
	if ((lasting ? connections < CONNECTIONS_SEEN_LASTING &&
			       descriptors < DESCRIPTORS_SEEN_LASTING
		     : connections < CONNECTIONS_SEEN) ||
	    !worth_a_try(iters->files.prog_fd >= 0, &iters->files_tries))
		return;
	if (!sockopt_places_find(&iters->places, &iters->types))
		(void)file_iter_open(&iters->files, &iters->types, &iters->places.words);
}

void dump_iters_processes(struct dump_iters *iters)
{
	if (!worth_a_try(iters->process_fd >= 0, &iters->process_tries))
		return;
	iters->process_fd = proc_view_open(&iters->types);
	if (iters->process_fd >= 0 && iters->threads.prog_fd < 0)
		(void)thread_iter_open(&iters->threads, &iters->types);
}

void dump_iters_mm(struct dump_iters *iters)
{
	if (!worth_a_try(iters->mm.stamp_fd >= 0, &iters->mm_tries))
		return;
	(void)mm_watch_open(&iters->mm, &iters->types);
}

void dump_iters_close(struct dump_iters *iters)
{
	vma_iter_close(&iters->vma);
	if (iters->kin_fd >= 0)
		(void)close(iters->kin_fd);
	thread_iter_close(&iters->threads);
	file_iter_close(&iters->files);
	if (iters->process_fd >= 0)
		(void)close(iters->process_fd);
	mm_watch_close(&iters->mm);
	btf_free(&iters->types);
	*iters = DUMP_ITERS_NONE;
}

int dump_begin(struct dump_ctx *d, const struct ckpt_dump_opts *opts, struct ckpt_ui *ui,
	       struct ckpt_err *err)
{
	memset(d, 0, sizeof(*d));
	d->opts = opts;
	d->ui = ui;
	raise_nofile();
	ckpt__inventory__init(&d->inv);
	ckpt__stats__init(&d->stats);
	image_writer_init(&d->writer);
	d->target.ui = ui;
	d->iters = opts->series ? opts->series->iters : DUMP_ITERS_NONE;
	if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &d->boot_id) < 0)
		return ckpt_fail(err, E_KERNEL, -ENOENT, "cannot read the boot id");
	if (timens_read(getpid(), &d->own, err))
		return err->code;
	find_iter(d);
	if (opts->series)
		dump_iters_files(&d->iters, opts->series->connections, opts->series->descriptors,
				 true);
	sockopts_begin(d);
	if (opts->series && opts->series->made) {
		dump_iters_processes(&d->iters);
		dump_iters_mm(&d->iters);
	}
	return 0;
}

/* A task that was killed while it stood still fails the dump in any way it likes: say what it was.
 */
static int blame_gone(struct dump_ctx *d, struct ckpt_err *err)
{
	for (size_t i = 0; i < d->target.tasks.n; i++) {
		const struct target_task *task = &d->target.tasks.v[i];
		struct ckpt_err gone = { 0 };
		struct proc_stat st;

		if (task->zombie || (!proc_stat_read(task->pid, &st, &gone) && st.state != 'Z' &&
				     st.state != 'X' && !(st.flags & PROC_PF_EXITING)))
			continue;
		ckpt_err_clear(err);
		return ckpt_fail(err, E_TARGET_GONE, -ESRCH, "task %d ended during the dump",
				 task->pid);
	}
	/* Killed a moment ago: no longer in our hands, not yet on its way out. */
	if (err->code == -ESRCH) {
		ckpt_err_clear(err);
		return ckpt_fail(err, E_TARGET_GONE, -ESRCH,
				 "a task of process %d was killed during the dump", d->opts->pid);
	}
	return err->code;
}

int dump_frozen(struct dump_ctx *d, struct ckpt_err *err)
{
	int rc = frozen_part(d, err);

	if (rc)
		return blame_gone(d, err);
	fill_inventory(d, &d->un, d->boot_id);
	rc = dump_ns_fill(d, err);
	return rc ? rc : fill_clocks(d, err);
}

int dump_commit(struct dump_ctx *d, uint64_t begin, struct ckpt_err *err)
{
	uint64_t at = io_now_us();
	int rc = dump_write_pages_later(d, err);

	d->stats.later_us = io_now_us() - at;
	d->stats.pages_us += d->stats.later_us;
	if (d->parent && d->parent->inv->stats && d->parent->inv->stats->faults < d->stats.faults)
		d->stats.faults_since = d->stats.faults - d->parent->inv->stats->faults;
	if (!rc)
		rc = put_records(d, err);
	if (!rc)
		rc = dump_put_pagemaps(d, err);
	if (!rc && (rc = ckpt_fault("dump.thawed")))
		rc = ckpt_fail_errno(err, E_IMAGE_WRITE, rc, "fault point dump.thawed");
	d->stats.tasks = d->tasks.n;
	d->stats.total_us = io_now_us() - begin;
	d->stats.bytes_packed = atomic_load(&d->writer.packed_bytes);
	d->stats.bytes_records = d->writer.records_bytes + d->writer.len;
	return rc ? rc : image_commit(&d->writer, &d->inv, err);
}

/* In a series, while the program runs it has more use for the processors than ckpt. Not in the
 * first, which leaves a keeper behind. */
#define NICER 5

static void give_way(const struct dump_ctx *d, bool give)
{
	const struct dump_series *s = d->opts->series;

	if (s && s->gives_way && (s->made || !give))
		(void)setpriority(PRIO_PROCESS, 0, s->nice + (give ? NICER : 0));
}

void dump_series_begin(struct dump_series *s)
{
	*s = (struct dump_series) { .iters = DUMP_ITERS_NONE,
				    .nice = getpriority(PRIO_PROCESS, 0) };
	/* Whoever may not come back stays where he is. */
	s->gives_way = !setpriority(PRIO_PROCESS, 0, s->nice + 1) &&
		       !setpriority(PRIO_PROCESS, 0, s->nice);
}

void dump_series_end(struct dump_series *s)
{
	dump_iters_close(&s->iters);
	dump_stage_free(&s->stage);
	told_maps_free(&s->maps);
	standby_free(s->standby);
	sockopts_forget(s->sockopts.all, s->sockopts.asked);
}

/* Of fewer descriptors all is known before another thread has looked at anything. */
#define STANDBY_DESCRIPTORS 24u

/* Somebody looks at memory while this thread looks at descriptors. Not before there is a keeper,
 * which is forked. */
static void have_help(const struct dump_ctx *d)
{
	struct dump_series *s = d->opts->series;

	if (!s || !s->made || d->opts->threads < 2 || s->descriptors < STANDBY_DESCRIPTORS)
		return;
	if (!s->standby)
		s->standby = standby_new();
	if (s->standby && s->helped)
		standby_alert(s->standby);
	s->helped = false;
}

static int dump_once(const struct ckpt_dump_opts *opts, struct ckpt_ui *ui, Ckpt__Stats *ret_stats,
		     struct ckpt_err *err)
{
	struct dump_ctx d;
	uint64_t begin = io_now_us();
	int rc = dump_begin(&d, opts, ui, err);

	give_way(&d, true);
	if (!rc)
		rc = dump_check(opts, &d.iters, ui, NULL, NULL, err);
	d.stats.check_us = io_now_us() - begin;
	if (!rc)
		rc = image_create(&d.writer, opts->dir, ui, err);
	image_stripe(&d.writer, opts->threads);
	image_pack(&d.writer, opts->compress);
	if (!rc)
		rc = ckpt_fault_fail("dump.created", E_IMAGE_DIR, err);
	if (!rc)
		rc = dump_session_begin(&d, err);
	btf_free(&d.iters.types);
	if (!rc)
		rc = dump_pre_begin(&d, err);
	if (!rc)
		dump_stage_begin(&d);
	give_way(&d, false);
	if (!rc)
		have_help(&d);
	if (!rc)
		rc = target_freeze(&d.target, opts->pid, err);
	if (rc) {
		dump_end(&d);
		return rc;
	}
	rc = dump_frozen(&d, err);
	/* A copy lets the program go on before the image is made durable; a program that is to
	 * be ended is not ended before. */
	if (rc || opts->end == TARGET_RUN) {
		dump_net_unlock(&d);
		target_thaw(&d.target, TARGET_RUN);
		if (d.target.thawed_at_us)
			d.stats.pause_us = d.target.thawed_at_us - d.target.frozen_at_us;
		give_way(&d, true);
	}
	if (!rc && opts->max_pause_us && opts->end == TARGET_RUN &&
	    d.stats.pause_us > opts->max_pause_us)
		ui_warn(ui, "process %d stood still for %.1f ms, longer than %.12g ms", opts->pid,
			(double)d.stats.pause_us / 1e3, (double)opts->max_pause_us / 1e3);
	if (!rc)
		rc = dump_commit(&d, begin, err);
	if (!rc)
		(void)ckpt_fault("dump.committed");
	if (!rc)
		dump_session_commit(&d);
	if (!rc && opts->end == TARGET_KILL)
		rc = dump_net_end(&d, d.writer.content_id, err);
	if (rc || opts->end != TARGET_KILL)
		dump_net_unlock(&d);
	if (opts->end != TARGET_RUN)
		target_thaw(&d.target, rc ? TARGET_RUN : opts->end);
	d.stats.total_us = io_now_us() - begin;
	if (opts->end != TARGET_RUN)
		d.stats.pause_us = io_now_us() - d.target.frozen_at_us;
	if (!rc)
		*ret_stats = d.stats;
	if (!rc && dump_net_kept(&d))
		ret_stats->network_lock = strdup(dump_net_kept(&d));
	dump_end(&d);
	return rc;
}

/* Connections that wait to be accepted, or are just being made, are gone in a moment. */
#define BUSY_TRIES 10

int ckpt_dump(const struct ckpt_dump_opts *opts, struct ckpt_ui *ui, Ckpt__Stats *ret_stats,
	      struct ckpt_err *err)
{
	int rc = dump_once(opts, ui, ret_stats, err);

	for (int i = 1;
	     rc == -EAGAIN && err->id == E_TCP && !opts->parent && !opts->track && i < BUSY_TRIES;
	     i++) {
		ckpt_err_clear(err);
		(void)usleep(20000);
		rc = dump_once(opts, ui, ret_stats, err);
	}
	return rc;
}

const struct ckpt_dump_opts *dump_opts(const struct dump_ctx *d)
{
	return d->opts;
}

struct ckpt_ui *dump_ui(const struct dump_ctx *d)
{
	return d->ui;
}

struct sockopt_defaults **dump_sockopt_defaults(struct dump_ctx *d, pthread_mutex_t **ret_lock)
{
	*ret_lock = &d->sockopts_lock;
	return &d->sockopts.all;
}

struct sockopts_asked **dump_sockopts_asked(struct dump_ctx *d)
{
	return &d->sockopts.asked;
}

const struct sockopt_places *dump_sockopt_places(const struct dump_ctx *d)
{
	return &d->iters.places;
}

struct Ckpt__SockOpts *dump_sockopts_ahead(struct dump_ctx *d, int fd)
{
	return d->ahead && fd >= 0 && d->ahead->local == fd ? take_ptr(d->ahead->opts) : NULL;
}

bool dump_has_pid(const struct dump_ctx *d, int pid)
{
	return dump_vpid(d, pid) != 0;
}

bool dump_shares_fs(const struct dump_ctx *d, const struct target_task *task)
{
	return &d->target.tasks.v[task->fs_of] != task;
}

bool dump_parent_headless(const struct dump_ctx *d, const struct target_task *task)
{
	return task->parent >= 0 && task_headless(&d->target.tasks.v[task->parent]);
}

int dump_vpid(const struct dump_ctx *d, int pid)
{
	for (size_t i = 0; i < d->target.tasks.n; i++)
		if (d->target.tasks.v[i].pid == pid || d->target.tasks.v[i].tgid == pid)
			return d->target.tasks.v[i].vpid;
	return 0;
}
