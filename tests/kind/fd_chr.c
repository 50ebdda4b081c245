// SPDX-License-Identifier: GPL-2.0-only
/* Character devices without state of their own. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/sysmacros.h>

static const struct {
	const char *path;
	int flags;
	unsigned int minor;
} devs[] = {
	{ "/dev/null", O_RDWR | O_CLOEXEC, 3 },
	{ "/dev/null", O_WRONLY | O_APPEND, 3 },
	{ "/dev/null", O_RDONLY | O_NONBLOCK, 3 },
	{ "/dev/zero", O_RDWR, 5 },
	{ "/dev/full", O_WRONLY, 7 },
	{ "/dev/random", O_RDONLY | O_NONBLOCK, 8 },
	{ "/dev/urandom", O_RDONLY, 9 },
};
#define N (sizeof(devs) / sizeof(devs[0]))

int main(int argc, char **argv)
{
	int fds[N], fl[N], unlinked, hwrng, kmsg;
	struct stat st;
	char c[16];

	fd_init(argc, argv);
	for (size_t i = 0; i < N; i++) {
		fds[i] = (int)MUST(open(devs[i].path, devs[i].flags));
		fl[i] = (int)MUST(fcntl(fds[i], F_GETFL));
	}
	/* A private device node under another name. */
	MUST(mknod("mynull", S_IFCHR | 0600, makedev(1, 3)));
	unlinked = open("mynull", O_RDWR);
	if (unlinked < 0) /* nodev mount */
		unlinked = (int)MUST(open("/dev/null", O_RDWR));

	/* Not every container has these. */
	hwrng = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
	kmsg = open("/dev/kmsg", O_WRONLY);

	t_ready();

	for (size_t i = 0; i < N; i++) {
		t_check(!fstat(fds[i], &st) && S_ISCHR(st.st_mode) &&
				st.st_rdev == makedev(1, devs[i].minor),
			"%s is device %u:%u", devs[i].path, major(st.st_rdev), minor(st.st_rdev));
		t_check(fcntl(fds[i], F_GETFL) == fl[i], "%s: flags %#o, not %#o", devs[i].path,
			fcntl(fds[i], F_GETFL), fl[i]);
		t_check(fcntl(fds[i], F_GETFD) == (devs[i].flags & O_CLOEXEC ? FD_CLOEXEC : 0),
			"%s: close-on-exec", devs[i].path);
	}
	t_check(write(fds[0], "x", 1) == 1 && read(fds[0], c, 1) == 0, "null");
	t_check(read(fds[3], c, 16) == 16 && !c[0] && !c[15], "zero");
	t_check(write(fds[4], "x", 1) < 0 && errno == ENOSPC, "full");
	t_check(read(fds[6], c, 16) == 16, "urandom");
	t_check(write(unlinked, "x", 1) == 1, "other name");
	t_check(hwrng < 0 || (!fstat(hwrng, &st) && st.st_rdev == makedev(10, 183)), "hwrng");
	t_check(kmsg < 0 || (!fstat(kmsg, &st) && st.st_rdev == makedev(1, 11)), "kmsg");
	return t_done();
}
