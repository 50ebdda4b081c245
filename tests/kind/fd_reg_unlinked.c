// SPDX-License-Identifier: GPL-2.0-only
/* Unlinked files: contents, holes, attributes, and several openings of one of them. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/xattr.h>

#define HOLE (512ll << 20)

int main(int argc, char **argv)
{
	char buf[10000], got[10000], path[64], link[4096];
	int rw, ro, app, sparse, empty, owned, tmpfile, orphan_in_dir;
	struct stat st;
	ssize_t n;

	fd_init(argc, argv);
	fd_fill(buf, sizeof(buf), 5);

	/* One file, three descriptions: they must go on sharing it. */
	rw = (int)MUST(open("gone", O_CREAT | O_EXCL | O_RDWR, 0604));
	MUST(write(rw, buf, sizeof(buf)));
	ro = (int)MUST(open("gone", O_RDONLY));
	app = (int)MUST(open("gone", O_WRONLY | O_APPEND));
	MUST(lseek(ro, 77, SEEK_SET));
	MUST(unlink("gone"));

	sparse = (int)MUST(open("sparse", O_CREAT | O_EXCL | O_RDWR, 0600));
	MUST(pwrite(sparse, buf, sizeof(buf), HOLE));
	MUST(ftruncate(sparse, HOLE * 2));
	MUST(unlink("sparse"));

	empty = (int)MUST(open("empty", O_CREAT | O_EXCL | O_RDONLY, 0400));
	MUST(unlink("empty"));

	owned = (int)MUST(open("owned", O_CREAT | O_EXCL | O_RDWR, 0600));
	MUST(write(owned, "o", 1));
	MUST(fchown(owned, 12345, 23456));
	MUST(fchmod(owned, 02755));
	MUST(futimens(owned, (struct timespec[]) { { 1000, 5 }, { 2000, 7 } }));
	MUST(unlink("owned"));

	tmpfile = (int)MUST(open(".", O_TMPFILE | O_RDWR, 0600));
	MUST(write(tmpfile, "tmp", 3));

	/* A name that somebody else has taken again. */
	orphan_in_dir = (int)MUST(open("again", O_CREAT | O_EXCL | O_RDWR, 0600));
	MUST(write(orphan_in_dir, "first", 5));
	MUST(unlink("again"));
	n = MUST(open("again", O_CREAT | O_EXCL | O_WRONLY, 0600));
	MUST(write((int)n, "second", 6));
	(void)close((int)n);

	t_ready();

	t_check(lseek(rw, 0, SEEK_CUR) == sizeof(buf), "rw position");
	t_check(lseek(ro, 0, SEEK_CUR) == 77, "ro position");
	t_check(pread(ro, got, sizeof(got), 0) == sizeof(got) && fd_filled(got, sizeof(got), 5),
		"contents differ");
	t_check(write(app, "end", 3) == 3, "append");
	t_check(pread(ro, got, sizeof(got), sizeof(buf)) == 3 && !memcmp(got, "end", 3),
		"the descriptions no longer share one file");
	t_check(pread(rw, got, sizeof(got), sizeof(buf)) == 3, "rw does not share the file");
	t_check(!fstat(rw, &st) && st.st_nlink == 0 && (st.st_mode & 07777) == 0604,
		"links %lu mode %o", (unsigned long)st.st_nlink, st.st_mode);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw);
	n = readlink(path, link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = 0;
	t_check(strstr(link, "gone"), "link reads %s", link);
	t_check(access("gone", F_OK) < 0, "the unlinked file has a name again");

	t_check(!fstat(sparse, &st) && st.st_size == HOLE * 2, "sparse size %ld", (long)st.st_size);
	t_check(st.st_blocks < 1024, "the hole was filled: %ld blocks", (long)st.st_blocks);
	t_check(pread(sparse, got, sizeof(got), HOLE) == sizeof(got) &&
			fd_filled(got, sizeof(got), 5),
		"sparse contents");
	t_check(!fstat(empty, &st) && st.st_size == 0 && (st.st_mode & 07777) == 0400 &&
			(fcntl(empty, F_GETFL) & O_ACCMODE) == O_RDONLY,
		"empty file");
	t_check(!fstat(owned, &st) && st.st_uid == 12345 && st.st_gid == 23456 &&
			(st.st_mode & 07777) == 02755,
		"owner %u:%u mode %o", st.st_uid, st.st_gid, st.st_mode);
	t_check(st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7, "mtime %ld.%ld",
		(long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	t_check(pread(tmpfile, got, sizeof(got), 0) == 3 && !memcmp(got, "tmp", 3), "O_TMPFILE");
	t_check(pread(orphan_in_dir, got, sizeof(got), 0) == 5 && !memcmp(got, "first", 5),
		"contents of the first file called \"again\"");
	n = open("again", O_RDONLY);
	t_check(n >= 0 && read((int)n, got, sizeof(got)) == 6 && !memcmp(got, "second", 6),
		"contents of the second file called \"again\"");
	return t_done();
}
