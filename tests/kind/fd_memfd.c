// SPDX-License-Identifier: GPL-2.0-only
/* Memfds: name, contents, holes, seals, mode, several openings. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
	char buf[20000], got[20000], link[128], path[64];
	int plain, sealed, ro, sparse, unsealable, empty;
	struct stat st;
	ssize_t n;

	fd_init(argc, argv);
	fd_fill(buf, sizeof(buf), 77);
	plain = (int)MUST(memfd_create("my name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	MUST(write(plain, buf, sizeof(buf)));
	MUST(lseek(plain, 123, SEEK_SET));
	MUST(fchmod(plain, 0640));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain);
	ro = (int)MUST(open(path, O_RDONLY));
	sealed = (int)MUST(memfd_create("sealed", MFD_ALLOW_SEALING));
	MUST(write(sealed, buf, 5000));
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
	sparse = (int)MUST(memfd_create("", 0));
	MUST(ftruncate(sparse, 1ll << 40));
	MUST(pwrite(sparse, "end", 3, (1ll << 40) - 3));
	unsealable = (int)MUST(memfd_create("unsealable", 0));
	empty = (int)MUST(memfd_create("empty", MFD_ALLOW_SEALING));
	MUST(fcntl(empty, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));

	t_ready();

	t_check(fcntl(plain, F_GETFD) == FD_CLOEXEC && fcntl(ro, F_GETFD) == 0, "close-on-exec");
	t_check(lseek(plain, 0, SEEK_CUR) == 123, "position");
	t_check(pread(plain, got, sizeof(got), 0) == sizeof(got) && fd_filled(got, sizeof(got), 77),
		"contents");
	t_check(!fstat(plain, &st) && st.st_size == sizeof(buf) && (st.st_mode & 07777) == 0640,
		"size %ld mode %o", (long)st.st_size, st.st_mode);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain);
	n = readlink(path, link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = 0;
	t_check(!strcmp(link, "/memfd:my name (deleted)"), "name: %s", link);
	t_check(fcntl(plain, F_GET_SEALS) == 0, "seals %#x", fcntl(plain, F_GET_SEALS));
	t_check(pwrite(plain, "new", 3, 0) == 3 && pread(ro, got, 3, 0) == 3 &&
			!memcmp(got, "new", 3),
		"the second opening is another file");
	t_check(write(ro, "x", 1) < 0, "the second opening is writable");
	t_check(fcntl(sealed, F_GET_SEALS) ==
			(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL),
		"seals %#x", fcntl(sealed, F_GET_SEALS));
	t_check(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM, "sealed but writable");
	t_check(pread(sealed, got, 6000, 0) == 5000 && fd_filled(got, 5000, 77), "sealed contents");
	t_check(!fstat(sparse, &st) && st.st_size == 1ll << 40 && st.st_blocks < 1000,
		"sparse: %ld bytes, %ld blocks", (long)st.st_size, (long)st.st_blocks);
	t_check(pread(sparse, got, 3, (1ll << 40) - 3) == 3 && !memcmp(got, "end", 3),
		"sparse end");
	t_check(fcntl(unsealable, F_GET_SEALS) == F_SEAL_SEAL, "seals %#x",
		fcntl(unsealable, F_GET_SEALS));
	t_check(fcntl(empty, F_GET_SEALS) == F_SEAL_FUTURE_WRITE, "seals %#x",
		fcntl(empty, F_GET_SEALS));
	return t_done();
}
