// SPDX-License-Identifier: GPL-2.0-only
/* O_DIRECT stays, and still moves aligned data. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	void *buf;
	int fd;

	fd_init(argc, argv);
	if (posix_memalign(&buf, 4096, 8192))
		return 2;
	fd = (int)MUST(open("direct", O_CREAT | O_EXCL | O_RDWR, 0600));
	MUST(ftruncate(fd, 8192));
	(void)close(fd);
	fd = open("direct", O_RDWR | O_DIRECT);
	if (fd < 0 && errno == EINVAL) /* a file system without it has nothing to lose */
		return t_done();
	fd_fill(buf, 8192, 9);
	MUST(write(fd, buf, 4096));

	t_ready();

	t_check(fcntl(fd, F_GETFL) & O_DIRECT, "flags %#o", fcntl(fd, F_GETFL));
	t_check(write(fd, (char *)buf + 4096, 4096) == 4096, "write: %s", strerror(errno));
	memset(buf, 0, 8192);
	t_check(pread(fd, buf, 8192, 0) == 8192 && fd_filled(buf, 8192, 9), "contents");
	return t_done();
}
