// SPDX-License-Identifier: GPL-2.0-only
/*
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME of the program go on and never back. On the boot it was saved
 * on they are those of its time namespace, which is made again if it is not ckpt's; elsewhere they
 * continue from where they were, in a time namespace of its own.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "kern/timens.h"
#include "restore/restore.h"

#define NS 1000000000ll
#define CLONE_NEWTIME_FLAG 0x80u

/* For tests: not a failure, but any boot is taken for another one. */
#define BOOT_SWITCH "restore.boot"

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(clock, &ts);
	return ts.tv_sec * NS + ts.tv_nsec;
}

bool restore_same_boot(const struct restore_ctx *r)
{
	const Ckpt__Inventory *inv = r->img->inv;
	auto_free char *id = NULL;

	if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &id) < 0)
		return false;
	id[strcspn(id, "\n")] = 0;
	return inv->boot_id && !strcmp(inv->boot_id, id);
}

int restore_clocks_make(struct restore_ctx *r, struct ckpt_err *err)
{
	const Ckpt__Inventory *inv = r->img->inv;
	struct timens_offsets own, want = { inv->monotonic_offset_ns, inv->boottime_offset_ns };
	bool other_boot = !restore_same_boot(r);
	int fd, high, rc = timens_read(getpid(), &own, err);

	if (rc)
		return rc;
	if (ckpt_fault(BOOT_SWITCH))
		other_boot = true;
	if (other_boot) {
		want.monotonic_ns =
			(int64_t)inv->monotonic_ns - now_ns(CLOCK_MONOTONIC) + own.monotonic_ns;
		want.boottime_ns =
			(int64_t)inv->boottime_ns - now_ns(CLOCK_BOOTTIME) + own.boottime_ns;
	}
	if (want.monotonic_ns == own.monotonic_ns && want.boottime_ns == own.boottime_ns)
		return 0;
	fd = timens_make(&want);
	if (fd == -EINVAL && other_boot && access("/proc/self/ns/time", F_OK)) {
		ui_warn(r->ui, "this kernel has no time namespaces: the program's monotonic clocks "
			       "jump");
		return 0;
	}
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, fd,
				       "cannot make a time namespace for the program's clocks");
	high = fcntl(fd, F_DUPFD_CLOEXEC, r->fd_base);
	(void)close(fd);
	if (high < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot keep a time namespace");
	r->timens_fd = high;
	return 0;
}

void restore_plan_clocks(struct restore_ctx *r, struct steps *s)
{
	if (r->timens_fd)
		(void)steps_call(s, "enter its time namespace", SYS_setns, (uint64_t)r->timens_fd,
				 CLONE_NEWTIME_FLAG);
}
