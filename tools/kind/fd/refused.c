// SPDX-License-Identifier: GPL-2.0-only
/* What no other kind takes: refused by its name, before anything is frozen. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "base/vec.h"
#include "core.pb-c.h"
#include "kind/fd/kinds.h"

static const struct {
	int family;
	const char *name;
} families[] = {
	{ AF_PACKET, "packet" }, { AF_VSOCK, "vsock" },  { AF_ALG, "alg (crypto)" },
	{ AF_XDP, "XDP" },       { AF_CAN, "CAN" },      { AF_BLUETOOTH, "bluetooth" },
	{ AF_TIPC, "TIPC" },     { AF_QIPCRTR, "qrtr" },
};

static bool refused_match(const struct fd_facts *f)
{
	(void)f;
	return true;
}

static const char *family_name(int family, char *room, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (families[i].family == family)
			return families[i].name;
	(void)snprintf(room, size, "family %d", family);
	return room;
}

static int refused_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	char what[64] = "";

	(void)d;
	if (S_ISSOCK(f->st.st_mode) && f->family >= 0) {
		char room[32];

		(void)snprintf(what, sizeof(what), "a %s socket",
			       family_name(f->family, room, sizeof(room)));
	} else if (S_ISCHR(f->st.st_mode) || S_ISBLK(f->st.st_mode)) {
		(void)snprintf(what, sizeof(what), "the %s device %u:%u",
			       S_ISCHR(f->st.st_mode) ? "character" : "block", major(f->st.st_rdev),
			       minor(f->st.st_rdev));
	} else if (!strncmp(f->link, "anon_inode:", 11)) {
		(void)snprintf(what, sizeof(what), "an open %.40s", f->link + 11);
	} else {
		(void)snprintf(what, sizeof(what), "this kind of file");
	}
	(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d (%s): %s cannot be saved", f->fd,
			f->link, what);
	return !strcmp(f->link, "anon_inode:[io_uring]") ? kind_async_io_remedy(err) : err->code;
}

static int refused_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			struct ckpt_err *err)
{
	(void)obj;
	(void)msg;
	return refused_check(d, f, err);
}

static int refused_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			   int *ret_fd, struct ckpt_err *err)
{
	(void)r;
	(void)msg;
	(void)ret_fd;
	return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
			 "object %u is of a kind that is never saved", obj->id);
}

/* The last of the registry: it matches everything. */
const struct fd_kind fd_kind_refused = {
	.name = "refused",
	.desc = &ckpt__state__descriptor,
	.match = refused_match,
	.check = refused_check,
	.dump = refused_dump,
	.restore = refused_restore,
};
