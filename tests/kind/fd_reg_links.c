// SPDX-License-Identifier: GPL-2.0-only
/* Files whose name changed after they were opened: renamed, moved, one of two links removed. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

static bool same_inode(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int make(const char *name)
{
	int fd = (int)MUST(open(name, O_CREAT | O_EXCL | O_RDWR, 0600));

	MUST(write(fd, name, strlen(name)));
	return fd;
}

int main(int argc, char **argv)
{
	int renamed, moved, replaced, linked, linked_ro;
	char got[64];

	fd_init(argc, argv);
	MUST(mkdir("sub", 0700));
	renamed = make("before");
	MUST(rename("before", "after"));
	moved = make("moved");
	MUST(rename("moved", "sub/moved"));
	replaced = make("replaced");
	MUST(rename("replaced", "kept"));
	(void)close(make("replaced"));

	/* The name it was opened by is gone, another link keeps the file. */
	linked = make("link1");
	MUST(link("link1", "sub/link2"));
	linked_ro = (int)MUST(open("link1", O_RDONLY));
	MUST(unlink("link1"));

	t_ready();

	t_check(same_inode(renamed, "after"), "renamed file");
	t_check(same_inode(moved, "sub/moved"), "moved file");
	t_check(same_inode(replaced, "kept"), "file whose name was taken by another");
	t_check(pread(replaced, got, sizeof(got), 0) == 8, "its contents");
	t_check(same_inode(linked, "sub/link2"), "file with another link");
	t_check(same_inode(linked_ro, "sub/link2"), "second opening of it");
	t_check(access("link1", F_OK) < 0, "the removed link is back");
	t_check(write(linked, "!", 1) == 1 && pread(linked_ro, got, sizeof(got), 0) == 6 &&
			!memcmp(got, "link1!", 6),
		"contents");
	return t_done();
}
