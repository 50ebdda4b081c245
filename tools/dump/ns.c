// SPDX-License-Identifier: GPL-2.0-only
/*
 * Trees in network, UTS and IPC namespaces of their own. ckpt enters these for the dump, so that it
 * looks at sockets, names and segments from where they are; the rest of it works as ever. The image
 * says which of them were the program's own.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "dump/dump.h"
#include "kern/nsenter.h"

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

/* The first thing in /proc/sysvipc/@name, of which only those with less than @attached in column
 * @column count. */
static bool ipc_first(const char *name, int column, long *ret_id)
{
	auto_free char *text = NULL;
	char path[64], *save = NULL;

	(void)snprintf(path, sizeof(path), "/proc/sysvipc/%s", name);
	if (io_read_file(AT_FDCWD, path, &text) < 0)
		return false;
	(void)strtok_r(text, "\n", &save); /* its headings */
	for (char *line = strtok_r(NULL, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *at = line;
		long v[8] = { 0 };

		for (int i = 0; i < 8; i++)
			v[i] = strtol(at, &at, 10);
		*ret_id = v[1];
		if (!column || !v[column])
			return true;
	}
	return false;
}

int dump_ns_check(const struct ckpt_dump_opts *opts, struct ckpt_err *err)
{
	static const struct {
		const char *name, *what;
		int column; /* what is not 0 there is known to the tree */
	} lists[] = {
		{ "sem", "System V semaphores", 0 },
		{ "msg", "the System V message queue", 0 },
		{ "shm", "the System V segment, which nobody has attached,", 6 },
	};
	long id;

	if (!opts->ns || !opts->ns->own[NSENTER_IPC])
		return 0;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (ipc_first(lists[i].name, lists[i].column, &id))
			return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
					 "%s %ld in an IPC namespace of the program's own",
					 lists[i].what, id);
	return 0;
}

void dump_ns_fill(struct dump_ctx *d)
{
	const struct dump_ns *ns = d->opts->ns;

	if (!ns || !(ns->own[NSENTER_NET] || ns->own[NSENTER_UTS] || ns->own[NSENTER_IPC]))
		return;
	d->namespaces = (Ckpt__Namespaces)CKPT__NAMESPACES__INIT;
	d->namespaces.net = ns->own[NSENTER_NET];
	d->namespaces.uts = ns->own[NSENTER_UTS];
	d->namespaces.ipc = ns->own[NSENTER_IPC];
	d->namespaces.nodename = d->un.nodename;
	d->namespaces.domainname = d->un.domainname;
	d->inv.namespaces = &d->namespaces;
}
