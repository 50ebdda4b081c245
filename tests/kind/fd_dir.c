// SPDX-License-Identifier: GPL-2.0-only
/* Directories: position in the listing, use as an anchor, O_PATH of everything. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <dirent.h>
#include <sys/un.h>

#define FILES 300

int main(int argc, char **argv)
{
	int dir, seen = 0, path_dir, path_file, path_link, path_fifo, path_sock, fd;
	char buf[2048], name[64], link[64];
	bool found[FILES] = { false };
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "sock" };
	struct stat st;
	long n;

	fd_init(argc, argv);
	MUST(mkdir("d", 0755));
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		(void)close((int)MUST(open(name, O_CREAT | O_EXCL | O_WRONLY, 0600)));
	}
	dir = (int)MUST(open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	/* Half of the listing is read before the checkpoint. */
	while (seen < FILES / 2) {
		n = MUST(syscall(SYS_getdents64, dir, buf, sizeof(buf)));
		for (long pos = 0; pos < n;) {
			struct dirent64 *d = (void *)(buf + pos);

			if (d->d_name[0] != '.') {
				found[atoi(d->d_name)] = true;
				seen++;
			}
			pos += d->d_reclen;
		}
	}
	MUST(symlink("d/0", "symlink"));
	MUST(mkfifo("fifo", 0600));
	fd = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(fd, (void *)&sun, sizeof(sun)));
	(void)close(fd);
	path_dir = (int)MUST(open("d", O_PATH | O_DIRECTORY));
	path_file = (int)MUST(open("d/1", O_PATH | O_CLOEXEC));
	path_link = (int)MUST(open("symlink", O_PATH | O_NOFOLLOW));
	path_fifo = (int)MUST(open("fifo", O_PATH));
	path_sock = (int)MUST(open("sock", O_PATH));

	t_ready();

	while ((n = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long pos = 0; pos < n;) {
			struct dirent64 *d = (void *)(buf + pos);

			if (d->d_name[0] != '.') {
				t_check(!found[atoi(d->d_name)], "%s is listed twice", d->d_name);
				found[atoi(d->d_name)] = true;
				seen++;
			}
			pos += d->d_reclen;
		}
	t_check(seen == FILES, "%d of %d names listed", seen, FILES);
	t_check(fcntl(dir, F_GETFD) == FD_CLOEXEC, "close-on-exec of the directory");

	t_check(!fstatat(path_dir, "7", &st, 0), "O_PATH directory as an anchor");
	t_check(fcntl(path_dir, F_GETFL) & O_PATH, "O_PATH flag: %#o", fcntl(path_dir, F_GETFL));
	t_check(read(path_file, buf, 1) < 0 && errno == EBADF, "O_PATH file is readable");
	t_check(fcntl(path_file, F_GETFD) == FD_CLOEXEC, "close-on-exec of the O_PATH file");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", path_file);
	fd = open(name, O_RDONLY);
	t_check(fd >= 0, "O_PATH file reopened: %s", strerror(errno));
	n = readlinkat(path_link, "", link, sizeof(link));
	t_check(n == 3 && !memcmp(link, "d/0", 3), "O_PATH symlink: %ld", n);
	t_check(!fstat(path_fifo, &st) && S_ISFIFO(st.st_mode), "O_PATH fifo");
	t_check(!fstat(path_sock, &st) && S_ISSOCK(st.st_mode), "O_PATH socket");
	return t_done();
}
