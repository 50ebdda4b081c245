// SPDX-License-Identifier: GPL-2.0-only
/* Character devices that have no state of their own. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/vec.h"
#include "fd_basic.pb-c.h"
#include "kind/fd/kinds.h"

static const struct {
	unsigned int maj, min;
	bool write_only; /* who reads it has a place in it that the kernel does not tell */
} stateless[] = {
	{ 1, 3, false },    /* null */
	{ 1, 5, false },    /* zero */
	{ 1, 7, false },    /* full */
	{ 1, 8, false },    /* random */
	{ 1, 9, false },    /* urandom */
	{ 1, 11, true },    /* kmsg */
	{ 10, 126, false }, /* userfaultfd */
	{ 10, 183, false }, /* hwrng */
	{ 10, 237, false }, /* loop-control */
};

static bool chr_match(const struct fd_facts *f)
{
	if (!S_ISCHR(f->st.st_mode) || f->flags & O_PATH)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(stateless); i++)
		if (f->st.st_rdev == makedev(stateless[i].maj, stateless[i].min))
			return !stateless[i].write_only || (f->flags & O_ACCMODE) == O_WRONLY;
	return false;
}

static int chr_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		    struct ckpt_err *err)
{
	Ckpt__FdChr *m = msg;

	(void)d;
	(void)obj;
	m->path = strdup(f->link);
	m->major = major(f->st.st_rdev);
	m->minor = minor(f->st.st_rdev);
	return m->path ? 0 : ckpt_oom(err);
}

static int chr_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int *ret_fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdChr *m = msg;
	struct stat st;
	int fd = open(m->path, (int)obj->flags | O_CLOEXEC | O_NOCTTY);

	(void)r;
	if (fd < 0)
		return ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "cannot open the device %s",
				       m->path);
	if (fstat(fd, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(m->major, m->minor)) {
		(void)close(fd);
		return ckpt_fail(err, E_FILE_CHANGED, -ENODEV,
				 "%s is another device than at the dump", m->path);
	}
	*ret_fd = fd;
	return 0;
}

static const char *chr_called(const void *msg)
{
	return ((const Ckpt__FdChr *)msg)->path;
}

const struct fd_kind fd_kind_chr = {
	.name = "chr",
	.desc = &ckpt__fd_chr__descriptor,
	.match = chr_match,
	.dump = chr_dump,
	.by_name = true,
	.restore = chr_restore,
	.called = chr_called,
};
