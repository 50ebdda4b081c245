// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a program into whose memory a device writes, at any time between the begin
 * of a read(2) and its end, and that knows afterwards what must be there. Argument after the
 * directory: the file, whose n-th read is n bytes short and holds n in each word. The length comes in
 * a register, so it is right whatever became of the memory.
 */
#include "t.h"

#include <fcntl.h>
#include <sys/mman.h>

#define BYTES (64u << 10)
#define OTHER (6u << 20)
#define PAGE 4096u

static atomic_bool stop;
static uint64_t *buf, last; /* 0: none */
static const char *path;

static bool holds(uint64_t n)
{
	for (size_t i = 0; i < (BYTES - n) / 8; i++)
		if (buf[i] != n)
			return t_check(false, "word %zu of read %lu is %lu", i, n, buf[i]);
	return true;
}

static void *reader(void *arg)
{
	int fd = (int)t_sys(open(path, O_RDONLY));

	(void)arg;
	while (!stop && (!last || holds(last))) {
		ssize_t n = pread(fd, buf, BYTES, 0);

		if (!t_check(n > (ssize_t)BYTES / 2 && n < (ssize_t)BYTES, "read: %zd, errno %d", n, errno))
			break;
		last = BYTES - (uint64_t)n;
	}
	return NULL;
}

/* Enough other work for several rounds. */
static void *writer(void *arg)
{
	uint64_t *area = arg;

	for (uint64_t n = 1; !stop; n++) {
		struct timespec ts = { .tv_nsec = 1000000 };

		for (size_t p = 0; p < 256; p++)
			area[(n * 256 + p) % (OTHER / PAGE) * (PAGE / 8)] = n;
		(void)nanosleep(&ts, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th, other;
	void *area;

	t_init(argc, argv);
	if (argc < 3)
		t_die(__FILE__, __LINE__, "arguments");
	path = argv[2];
	buf = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	area = mmap(NULL, OTHER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED || area == MAP_FAILED)
		t_die(__FILE__, __LINE__, "mmap");
	memset(area, 1, OTHER);
	th = t_thread(reader, NULL);
	other = t_thread(writer, area);
	t_until(last > 2, "it reads");
	t_ready();
	stop = true;
	t_zero(pthread_join(th, NULL));
	t_zero(pthread_join(other, NULL));
	t_check(holds(last), "the last read");
	return t_done();
}
