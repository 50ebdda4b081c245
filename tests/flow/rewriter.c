// SPDX-License-Identifier: GPL-2.0-only
/* Threads that make pages of a file their own, and give them back, again and again. */
#include "t.h"

#include <fcntl.h>
#include <sys/mman.h>

enum { PAGES = 64, PAGE = 4096, THREADS = 3 };

static atomic_bool stop;
static char *mapped[THREADS];

static uint64_t of_file(size_t page)
{
	return t_pattern(page + 1);
}

static uint64_t *word(size_t thread, size_t page)
{
	return (uint64_t *)(mapped[thread] + page * PAGE);
}

static void *rewrite(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;

	for (uint64_t n = 1; !stop; n++) {
		for (size_t i = 0; i < PAGES; i++) {
			/* Written at once it is in two steps, of which the first makes it. */
			if (n % 4 == 0)
				t_check(*word(me, i) == of_file(i), "page %zu is the file's", i);
			*word(me, i) = n;
			t_check(*word(me, i) == n, "page %zu is what was written", i);
		}
		t_sys(madvise(mapped[me], PAGES * PAGE, MADV_DONTNEED));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[THREADS];
	int fd;

	t_init(argc, argv);
	fd = (int)t_sys(open(t_path("file"), O_CREAT | O_RDWR, 0600));
	for (size_t i = 0; i < PAGES; i++) {
		uint64_t v = of_file(i);

		t_sys(pwrite(fd, &v, sizeof(v), (off_t)(i * PAGE)));
	}
	t_sys(ftruncate(fd, PAGES * PAGE));
	for (size_t i = 0; i < THREADS; i++) {
		mapped[i] = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		t_check(mapped[i] != MAP_FAILED, "mmap");
		th[i] = t_thread(rewrite, (void *)(uintptr_t)i);
	}
	t_ready();
	stop = true;
	for (size_t i = 0; i < THREADS; i++)
		t_zero(pthread_join(th[i], NULL));
	return t_done();
}
