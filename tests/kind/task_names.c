// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names that a program chooses and /proc shows among everything else: newlines, brackets, spaces,
 * "(deleted)", what looks like a mapping or a field. Of files that are open, mapped, executable,
 * watched; of the directory it is in; of itself.
 */
#include "t.h"

#include <limits.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define PG 4096

static const char *const names[] = {
	"two\nlines",
	"back\\slash\\012n",
	"x [vdso]",
	"[vdso]",
	"[stack]",
	"gone (deleted)",
	"7ffff0000000-7ffffffff000 rwxs 00000000 00:00 0 \n7fff00000000-7ffffffff000 rwxp 00000000 00:00 0",
	"y\nVmFlags: rd wr sh io pf dd",
	"z\nKernelPageSize:     2048 kB",
	" leading and trailing ",
	"memfd:a",
	"tfd: 0 events: 19 data: 1",
	"pipe:[1]",
	"\xff\xfe not text \x01",
};

enum { N = T_ARRAY_SIZE(names) };

static const char weird_comm[16] = ") R 1 1\n(1 2) \x7f";

static struct one {
	char path[PATH_MAX];
	int fd;
	unsigned char *priv, *shared, *exec;
	unsigned char *lost; /* of a file of this name that was removed */
	unsigned char *mem; /* a memory file of this name */
	char mem_link[PATH_MAX], priv_link[PATH_MAX], lost_link[PATH_MAX];
	ino_t ino;
} v[N];

static void fill(unsigned char *p, size_t seed)
{
	for (size_t i = 0; i < PG; i++)
		p[i] = (unsigned char)t_pattern(seed + i);
}

/* What the kernel calls a mapping. */
static void called(const void *p, char *ret)
{
	char path[96];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p, (unsigned long)p + PG);
	n = readlink(path, ret, PATH_MAX - 1);
	ret[n < 0 ? 0 : n] = 0;
}

static bool same(const unsigned char *p, size_t seed)
{
	for (size_t i = 0; i < PG; i++)
		if (p[i] != (unsigned char)t_pattern(seed + i))
			return false;
	return true;
}

static unsigned char *map(int fd, int prot, int flags)
{
	void *p = mmap(NULL, PG, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		t_die(__FILE__, __LINE__, "mmap");
	return p;
}

static void make(size_t i)
{
	unsigned char page[PG];
	struct stat st;
	int fd;

	(void)snprintf(v[i].path, sizeof(v[i].path), "%s", names[i]);
	/* One that is removed while it is mapped, and then one that stays. */
	fd = (int)t_sys(open(v[i].path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	fill(page, i * 7);
	t_sys(write(fd, page, PG));
	v[i].lost = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	t_sys(unlink(v[i].path));
	(void)close(fd);
	v[i].fd = (int)t_sys(open(v[i].path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0700));
	fill(page, i);
	t_sys(write(v[i].fd, page, PG));
	v[i].priv = map(v[i].fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	v[i].shared = map(v[i].fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	v[i].exec = map(v[i].fd, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	if (i & 1)
		v[i].priv[0] ^= 0xff;
	t_sys(fstat(v[i].fd, &st));
	v[i].ino = st.st_ino;
	fd = (int)t_sys(memfd_create(names[i], MFD_CLOEXEC));
	fill(page, i * 3);
	t_sys(write(fd, page, PG));
	v[i].mem = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	if (i & 1)
		(void)close(fd);
	called(v[i].mem, v[i].mem_link);
	called(v[i].priv, v[i].priv_link);
	called(v[i].lost, v[i].lost_link);
}

static void look(size_t i)
{
	char link[PATH_MAX];
	struct stat st;

	t_check(same(v[i].mem, i * 3), "memory file of name %zu", i);
	called(v[i].mem, link);
	t_check(!strcmp(link, v[i].mem_link), "memory file is called %s, was %s", link, v[i].mem_link);
	called(v[i].priv, link);
	t_check(!strcmp(link, v[i].priv_link), "mapped file is called %s, was %s", link, v[i].priv_link);
	called(v[i].lost, link);
	/* What is made again is removed again, under a name of its own. */
	t_check(strlen(link) > 10 && !strcmp(link + strlen(link) - 10, " (deleted)"), "removed file is called %s, was %s",
		link, v[i].lost_link);

	t_check(!fstat(v[i].fd, &st) && st.st_ino == v[i].ino, "descriptor of name %zu", i);
	t_check(!stat(names[i], &st) && st.st_ino == v[i].ino, "name %zu in the directory", i);
	t_check(lseek(v[i].fd, 0, SEEK_CUR) == PG, "position in name %zu", i);
	if (i & 1)
		v[i].priv[0] ^= 0xff;
	t_check(same(v[i].priv, i), "private mapping of name %zu", i);
	t_check(same(v[i].exec, i), "executable mapping of name %zu", i);
	t_check(same(v[i].lost, i * 7), "mapping of a removed file of name %zu", i);
	v[i].shared[1] ^= 1;
	t_check(pread(v[i].fd, &st, 2, 0) == 2 && ((unsigned char *)&st)[1] == v[i].shared[1],
		"shared mapping of name %zu is of the file", i);
	v[i].shared[1] ^= 1;
	t_check(same(v[i].shared, i), "shared mapping of name %zu", i);
}

int main(int argc, char **argv)
{
	static const char folder[] = "a\nb - tmpfs tmpfs rw\n99 1 0:1 [vdso] (deleted)";
	char comm[16] = "", cwd[PATH_MAX], now[PATH_MAX];
	int watch, wd;

	t_init(argc, argv);
	t_sys(mkdir(t_path(folder), 0700));
	t_sys(chdir(t_path(folder)));
	if (!getcwd(cwd, sizeof(cwd)))
		t_die(__FILE__, __LINE__, "getcwd");
	for (size_t i = 0; i < N; i++)
		make(i);
	watch = (int)t_sys(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
	wd = (int)t_sys(inotify_add_watch(watch, names[0], IN_ATTRIB));
	t_sys(prctl(PR_SET_NAME, weird_comm));
	/* What ps shows; the kernel shows the area up to its end. */
	memset(argv[0], '\n', strlen(argv[0]));

	t_ready();

	t_sys(prctl(PR_GET_NAME, comm));
	t_check(!strcmp(comm, weird_comm), "the name is %s", comm);
	t_check(getcwd(now, sizeof(now)) && !strcmp(now, cwd), "the directory is %s", now);
	for (size_t i = 0; i < N; i++)
		look(i);
	t_sys(chmod(names[0], 0600));
	{
		struct inotify_event ev;

		t_check(read(watch, &ev, sizeof(ev)) == sizeof(ev) && ev.wd == wd && ev.mask == IN_ATTRIB,
			"an event of the watched file");
	}
	return t_done();
}
