// SPDX-License-Identifier: GPL-2.0-only
/*
 * Trees in network, UTS and IPC namespaces of their own. ckpt enters these for the dump, so that it
 * looks at sockets, names and segments from where they are; the rest of it works as ever. The image
 * says which of them were the program's own. A pid namespace is its own when the root is its init.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "dump/dump.h"
#include "kern/nsenter.h"
#include "kern/procfs.h"
#include "kind/ipc.h"

void dump_ns_enter(int pid, struct dump_ns *ret)
{
	for (int t = 0; t < NSENTER_TYPES; t++) {
		struct ckpt_err ignore = { 0 };
		char path[64];

		if (!nsenter_differs(pid, (enum nsenter_type)t))
			continue;
		/* Where that fails, the check says that the namespace is another. */
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid,
			       nsenter_name((enum nsenter_type)t));
		ret->own[t] = !nsenter_path((enum nsenter_type)t, path, &ignore);
	}
}

/* A System V segment that nobody has attached: no task would bring it. */
static bool segment_alone(long *ret_id)
{
	auto_free char *text = NULL;
	char *save = NULL;

	if (io_read_file(AT_FDCWD, "/proc/sysvipc/shm", &text) < 0)
		return false;
	(void)strtok_r(text, "\n", &save); /* its headings */
	for (char *line = strtok_r(NULL, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *at = line;
		long v[7] = { 0 };

		/* key shmid perms size cpid lpid nattch */
		for (int i = 0; i < 7; i++)
			v[i] = strtol(at, &at, i == 2 ? 8 : 10);
		*ret_id = v[1];
		if (!v[6])
			return true;
	}
	return false;
}

int dump_ns_check(const struct ckpt_dump_opts *opts, struct ckpt_err *err)
{
	long id;

	if (!opts->ns || !opts->ns->own[NSENTER_IPC])
		return 0;
	if (segment_alone(&id))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "the System V segment, which nobody has attached, %ld in an IPC "
				 "namespace of the program's own",
				 id);
	return ipc_check(err);
}

bool dump_ns_own_proc(int pid)
{
	struct stat there, inner;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	if (stat(path, &inner))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/root/proc/1/ns/pid", pid);
	return !stat(path, &there) && there.st_ino == inner.st_ino && there.st_dev == inner.st_dev;
}

/* How /proc is mounted where @pid is: "… /proc nosuid,… - proc proc rw,hidepid=…"; the last one
 * covers those before it. */
static void read_proc_mount(int pid, uint64_t *ret_flags, char *ret_options, size_t len)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} flags[] = {
		{ "ro", MS_RDONLY },     { "nosuid", MS_NOSUID },   { "nodev", MS_NODEV },
		{ "noexec", MS_NOEXEC }, { "noatime", MS_NOATIME }, { "nodiratime", MS_NODIRATIME },
	};
	auto_free char *text = NULL;
	struct ckpt_err gone = { 0 };
	char *save = NULL;

	if (proc_read(pid, "mountinfo", &text, NULL, &gone))
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char at[64], how[256], options[256], *tail = strstr(l, " - proc "), *in = NULL;

		if (!tail || sscanf(l, "%*d %*d %*s %*s %63s %255s", at, how) != 2 ||
		    strcmp(at, "/proc") != 0 || sscanf(tail, " - proc %*s %255s", options) != 1)
			continue;
		*ret_flags = 0;
		for (char *w = strtok_r(how, ",", &in); w; w = strtok_r(NULL, ",", &in))
			for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
				*ret_flags |= strcmp(w, flags[i].name) ? 0 : flags[i].flag;
		/* "rw" is no option of the file system. */
		(void)snprintf(ret_options, len, "%s",
			       strlen(options) > 3 && options[2] == ',' ? options + 3 : "");
	}
}

int dump_ns_fill(struct dump_ctx *d, struct ckpt_err *err)
{
	const struct dump_ns *ns = d->opts->ns;
	const struct target_task *root = &d->target.tasks.v[0];
	bool init = d->target.nested_pids && root->vpid == 1;

	if (!ns || !(init || ns->own[NSENTER_NET] || ns->own[NSENTER_UTS] || ns->own[NSENTER_IPC]))
		return 0;
	d->namespaces = (Ckpt__Namespaces)CKPT__NAMESPACES__INIT;
	d->namespaces.pid = init;
	if (init)
		read_proc_mount(root->pid, &d->namespaces.proc_flags, d->proc_options,
				sizeof(d->proc_options));
	d->namespaces.proc_options = d->proc_options;
	d->namespaces.net = ns->own[NSENTER_NET];
	d->namespaces.uts = ns->own[NSENTER_UTS];
	d->namespaces.ipc = ns->own[NSENTER_IPC];
	d->namespaces.nodename = d->un.nodename;
	d->namespaces.domainname = d->un.domainname;
	d->inv.namespaces = &d->namespaces;
	return d->namespaces.ipc ? ipc_dump(&d->namespaces, err) : 0;
}
