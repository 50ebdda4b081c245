// SPDX-License-Identifier: GPL-2.0-only
/* In which control groups a process is. Joined again where they exist at restore; where they do
 * not, it stays in ckpt's, which -v tells. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kern/mounts.h"
#include "kind/task/kinds.h"
#include "task_cgroup.pb-c.h"

#define MEMBERS_MAX 64u

/* "hierarchy:controllers:path" */
static bool member_parse(char *line, char **ret_controllers, char **ret_path)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return false;
	*path++ = 0;
	*ret_controllers = controllers + 1;
	*ret_path = path;
	return *path == '/';
}

static int cgroup_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	Ckpt__TaskCgroups *m = msg;
	auto_free char *text = NULL;
	char *save = NULL, *controllers, *path;
	int rc = proc_read(f->task->pid, "cgroup", &text, NULL, err);

	(void)d;
	(void)a;
	(void)slot;
	(void)priv;
	if (rc)
		return rc;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		Ckpt__CgroupMember *c;

		if (!member_parse(line, &controllers, &path))
			continue;
		c = kind_msg_new(&ckpt__cgroup_member__descriptor);
		if (!c || kind_push(&m->n_members, &m->members, c)) {
			free(c);
			return ckpt_oom(err);
		}
		c->controllers = strdup(controllers);
		c->path = strdup(path);
		if (!c->controllers || !c->path)
			return ckpt_oom(err);
	}
	return m->n_members ? 0 : 1;
}

/* ---- restore ---------------------------------------------------------------------------- */

/* Is that line in @text, which is a /proc/PID/cgroup? */
static bool has_member(const char *text, const Ckpt__CgroupMember *c)
{
	size_t nc = strlen(c->controllers), np = strlen(c->path);

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *p = strchr(line, ':');

		if (p && !strncmp(p + 1, c->controllers, nc) && p[1 + nc] == ':' &&
		    !strncmp(p + 2 + nc, c->path, np) && p[2 + nc + np] == '\n')
			return true;
	}
	return false;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == 0))
			return true;
	return false;
}

/* Where the hierarchy with @controllers is mounted, from mountinfo: "… mountpoint … - type dev
 * super-options". A v1 hierarchy names its controllers among the super options. */
static bool find_mount(const char *controllers, char *ret, size_t size)
{
	auto_free char *text = NULL;
	struct mount m;
	char *at;

	if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", &text) < 0)
		return false;
	at = text;
	while (mount_next(&at, &m)) {
		if (strcmp(m.root, "/") != 0)
			continue;
		if (*controllers ? !strcmp(m.type, "cgroup") && has_word(m.super, controllers)
				 : !strcmp(m.type, "cgroup2")) {
			(void)snprintf(ret, size, "%s", m.at);
			return true;
		}
	}
	return false;
}

static void step_join(struct steps *s, const char *procs)
{
	uint32_t open = steps_add(s,
				  &(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
							.nr = SYS_openat,
							.arg = { (uint64_t)AT_FDCWD,
								 steps_str(s, procs), O_WRONLY } },
				  procs);

	(void)steps_add(s,
			&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					      .nr = SYS_write,
					      .refs = 1,
					      .arg = { open, steps_str(s, "0"), 1 } },
			procs);
	(void)steps_add(
		s,
		&(struct ckpt_step) {
			.op = CKPT_OP_SYSCALL, .nr = SYS_close, .refs = 1, .arg = { open } },
		procs);
}

/* @path is a group of the unified hierarchy, also when it is written with its mount point. */
static int plan_given(struct restore_ctx *r, const Ckpt__Task *task, struct steps *s,
		      struct ckpt_err *err)
{
	const char *path = restore_opts(r)->cgroup;
	char mount[512], procs[1024];
	size_t n;

	if (!find_mount("", mount, sizeof(mount)))
		return ckpt_fail(err, E_KERNEL, -ENOENT, "there is no cgroup2 file system");
	n = strlen(mount);
	if (!strncmp(path, mount, n) && (path[n] == '/' || !path[n]))
		path += n;
	(void)snprintf(procs, sizeof(procs), "%s/%s/cgroup.procs", mount, path + (*path == '/'));
	if (access(procs, W_OK)) {
		(void)ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "task %d cannot join %s",
				      task->pid, procs);
		return ckpt_remedy(err, "make the control group first: mkdir %s/%s", mount,
				   path + (*path == '/'));
	}
	step_join(s, procs);
	return 0;
}

static int cgroup_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskCgroups *m = msg;
	const char *how = restore_opts(r)->cgroup;
	auto_free char *own = NULL;

	(void)thread;
	if (how && !strcmp(how, "none"))
		return 0;
	if (how && strcmp(how, "keep") != 0)
		return plan_given(r, task, s, err);
	if (io_read_file(AT_FDCWD, "/proc/self/cgroup", &own) < 0)
		return ckpt_fail(err, E_KERNEL, -ENOENT, "cannot read /proc/self/cgroup");
	if (m->n_members > MEMBERS_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "task %d is in %zu control groups",
				 task->pid, m->n_members);
	for (size_t i = 0; i < m->n_members; i++) {
		const Ckpt__CgroupMember *c = m->members[i];
		char mount[512], procs[1024];

		if (strstr(c->path, "/..") || c->path[0] != '/')
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "control group \"%s\"",
					 c->path);
		if (has_member(own, c) || !find_mount(c->controllers, mount, sizeof(mount)))
			continue;
		(void)snprintf(procs, sizeof(procs), "%s%s/cgroup.procs", mount, c->path);
		if (access(procs, W_OK)) {
			ui_note(restore_ui(r), 1, "task %d: control group %s is not there",
				task->pid, c->path);
			continue;
		}
		step_join(s, procs);
	}
	return 0;
}

const struct task_kind task_kind_cgroups = {
	.name = "cgroups",
	.desc = &ckpt__task_cgroups__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_MM,
	.dump = cgroup_dump,
	.plan = cgroup_plan,
};
