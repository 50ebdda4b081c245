// SPDX-License-Identifier: GPL-2.0-only
/* t: modes=control,leave */
/* With --store-files a mapped file may change or vanish after the dump; flow/store_files.py restores this
 * program after its file was overwritten and its directory removed. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "t.h"

#define PAGES 5
#define SIZE (PAGES * 4096 - 100)

int main(int argc, char **argv)
{
	unsigned char *p;
	int fd, wrong = 0;

	t_init(argc, argv);
	t_sys(mkdir(t_path("data"), 0700));
	fd = (int)t_sys(open(t_path("data/file"), O_RDWR | O_CREAT | O_TRUNC, 0644));
	for (int i = 0; i < SIZE; i++) {
		unsigned char c = (unsigned char)t_pattern((size_t)i);

		t_check(write(fd, &c, 1) == 1, "write");
	}
	close(fd);
	fd = (int)t_sys(open(t_path("data/file"), O_RDONLY));
	p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	t_check(p != MAP_FAILED, "mmap");
	close(fd);
	p[4096] = 77; /* a page of its own; the others are the file's */
	t_ready();
	for (int i = 0; i < SIZE; i++)
		wrong += i != 4096 && p[i] != (unsigned char)t_pattern((size_t)i);
	t_check(!wrong, "%d bytes differ", wrong);
	t_check(p[4096] == 77, "the changed page is %d", p[4096]);
	return t_done();
}
