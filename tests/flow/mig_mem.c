// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a program that writes its memory in every way there is
 * while it is copied, and knows what each page must hold. Arguments after the
 * directory: MiB of memory, pages written a second, children.
 */
#include "t.h"

#include <sys/mman.h>

#define PAGE 4096u
#define WORDS (PAGE / 8)

static atomic_bool stop;
static uint64_t *area; /* pages of a number each; 0: a page of zeros */
static uint32_t *want; /* the number that each page must have */
static size_t npages;
static unsigned long rate;
static uint64_t *file_map; /* private, of a file */

static void fill(uint64_t *page, uint64_t number)
{
	uint64_t v = number;

	for (size_t i = 0; i < WORDS; i++) {
		page[i] = number ? v : 0;
		v = v * 6364136223846793005ull + 1442695040888963407ull;
	}
}

static bool holds(const uint64_t *page, uint64_t number)
{
	uint64_t v = number;

	for (size_t i = 0; i < WORDS; i++) {
		if (page[i] != (number ? v : 0))
			return false;
		v = v * 6364136223846793005ull + 1442695040888963407ull;
	}
	return true;
}

static void *writer(void *arg)
{
	uint64_t x = (uintptr_t)arg | 1;
	struct timespec ts = { .tv_nsec = 1000000 };

	while (!stop) {
		/* A millisecond's worth of pages; some become zero, some are given back. */
		for (unsigned long k = 0; k < rate / 1000 + 1; k++) {
			size_t p;

			x = x * 6364136223846793005ull + 1442695040888963407ull;
			p = (size_t)(x >> 33) % npages;
			want[p] = x >> 60 ? (uint32_t)(x >> 20) | 1 : 0;
			if (!want[p] && (x >> 59 & 1))
				t_sys(madvise(area + p * WORDS, PAGE, MADV_DONTNEED));
			else
				fill(area + p * WORDS, want[p]);
		}
		(void)nanosleep(&ts, NULL);
	}
	return NULL;
}

/* Mappings that come, grow, move, are protected and go. */
static void *mapper(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; !stop; n++) {
		size_t len = PAGE * (1 + n % 96);
		uint64_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct timespec ts = { .tv_nsec = 3000000 };

		if (!t_check(p != MAP_FAILED, "mmap, errno %d", errno))
			break;
		for (size_t i = 0; i < len / PAGE; i++)
			fill(p + i * WORDS, n + i);
		(void)nanosleep(&ts, NULL);
		p = mremap(p, len, len + PAGE * 16, MREMAP_MAYMOVE);
		if (!t_check(p != MAP_FAILED, "mremap, errno %d", errno))
			break;
		fill(p + len / 8, n * 3);
		t_sys(mprotect(p, len, PROT_READ));
		(void)nanosleep(&ts, NULL);
		for (size_t i = 0; i < len / PAGE; i++)
			t_check(holds(p + i * WORDS, n + i), "page %zu of mapping %lu", i, n);
		t_check(holds(p + len / 8, n * 3), "the page that mapping %lu grew by", n);
		t_check(holds(p + len / 8 + WORDS, 0), "new pages are zero");
		t_sys(munmap(p, len + PAGE * 16));
	}
	return NULL;
}

static void *file_writer(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; !stop; n++) {
		struct timespec ts = { .tv_nsec = 2000000 };

		fill(file_map, n % 8 ? n : 0);
		(void)nanosleep(&ts, NULL);
		t_check(holds(file_map, n % 8 ? n : 0), "private page of a file");
		t_check(file_map[WORDS] == 0x4242424242424242ull, "untouched page of a file");
	}
	return NULL;
}

static void verify(void)
{
	size_t bad = 0;

	for (size_t p = 0; p < npages; p++) {
		const uint64_t *page = area + p * WORDS;

		if (holds(page, want[p]))
			continue;
		if (!bad++)
			t_check(false, "page %zu at %p should be %#x: %#lx %#lx … %#lx, all of %#lx: %d", p,
				(void *)page, want[p], page[0], page[1], page[WORDS - 1], page[0],
				holds(page, page[0]));
	}
	t_check(!bad, "%zu of %zu pages are wrong", bad, npages);
}

static void run(bool announce)
{
	pthread_t th[8];
	int n = 0;

	th[n++] = t_thread(writer, (void *)(uintptr_t)getpid());
	th[n++] = t_thread(mapper, NULL);
	th[n++] = t_thread(file_writer, NULL);
	if (announce)
		t_ready();
	else
		t_wait_go();
	stop = true;
	for (int i = 0; i < n; i++)
		t_zero(pthread_join(th[i], NULL));
	verify();
}

int main(int argc, char **argv)
{
	pid_t pid[8];
	int children, fd;

	t_init(argc, argv);
	if (argc < 5)
		return 2;
	npages = strtoul(argv[2], NULL, 10) << 8;
	rate = strtoul(argv[3], NULL, 10);
	children = atoi(argv[4]) & 7;
	area = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	want = calloc(npages, sizeof(*want));
	fd = (int)t_sys(open(t_path("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
	for (int i = 0; i < 2 * (int)WORDS; i++)
		t_sys(write(fd, "BBBBBBBB", 8));
	file_map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (area == MAP_FAILED || !want || file_map == MAP_FAILED)
		t_die(__FILE__, __LINE__, "memory");
	close(fd);
	for (size_t p = 0; p < npages; p++) {
		want[p] = p % 5 ? (uint32_t)p + 1 : 0;
		if (want[p])
			fill(area + p * WORDS, want[p]);
	}
	for (int i = 0; i < children; i++) {
		pid[i] = t_fork();
		if (!pid[i]) {
			run(false);
			_exit(t_status());
		}
	}
	run(true);
	for (int i = 0; i < children; i++) {
		t_sys(kill(pid[i], SIGTERM));
		t_reap(pid[i], 0);
	}
	return t_done();
}
