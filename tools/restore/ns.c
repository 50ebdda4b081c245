// SPDX-License-Identifier: GPL-2.0-only
/*
 * Network, UTS and IPC namespaces of the restored program: those that the caller names, or new ones
 * where it had its own. ckpt goes there itself, before anything is made; the tasks inherit them.
 */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "image/reader.h"
#include "kern/nsenter.h"
#include "kind/ipc.h"
#include "restore/restore.h"

#define HOST "host" /* the caller's own */

static int make_uts(const Ckpt__Namespaces *ns, struct ckpt_err *err)
{
	if (unshare(CLONE_NEWUTS) || sethostname(ns->nodename, strlen(ns->nodename)) ||
	    setdomainname(ns->domainname, strlen(ns->domainname)))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot make a UTS namespace for the host name \"%.64s\"",
				       ns->nodename);
	return 0;
}

static int make_ipc(const Ckpt__Namespaces *own, struct ckpt_err *err)
{
	if (unshare(CLONE_NEWIPC))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make an IPC namespace");
	return ipc_restore(own, err);
}

static int no_net(struct ckpt_err *err)
{
	(void)ckpt_fail(err, E_EXTERNAL, -ENONET,
			"the program lived in a network namespace of its own, which is not saved");
	return ckpt_remedy(err, "name one that is set up: --join-ns net:/run/netns/NAME (ip netns "
				"add NAME); or ckpt's own: --join-ns net:" HOST);
}

static int enter(const struct ckpt_restore_opts *o, const Ckpt__Namespaces *own,
		 struct ckpt_err *err)
{
	for (int t = 0; t < NSENTER_TYPES; t++) {
		int rc = 0;

		if (o->join_ns[t])
			rc = strcmp(o->join_ns[t], HOST) != 0
				     ? nsenter_path((enum nsenter_type)t, o->join_ns[t], err)
				     : 0;
		else if (t == NSENTER_NET && own && own->net)
			rc = no_net(err);
		else if (t == NSENTER_UTS && own && own->uts)
			rc = make_uts(own, err);
		else if (t == NSENTER_IPC && own && own->ipc)
			rc = make_ipc(own, err);
		if (rc)
			return rc;
	}
	return 0;
}

int restore_ns_enter(const struct ckpt_restore_opts *opts, struct ckpt_err *err)
{
	struct image img;
	int rc = image_read_inventory(&img, opts->dir, err);

	if (!rc)
		rc = enter(opts, img.inv->namespaces, err);
	image_free(&img);
	return rc;
}
