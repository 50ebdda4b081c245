// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a program that checks itself all the time, for tests
 * that disturb ckpt while it dumps. Every thread counts in the file "progress"
 * of the test's directory, so an observer sees each of them live.
 */
#include "t.h"

#include <math.h>
#include <poll.h>
#include <sys/mman.h>

enum { CPU, VECTOR, SLEEP, PING, PONG, WAIT, POST, TICK, MEMORY, THREADS, POLL, COUNT };

static atomic_ulong *progress;
static atomic_bool stop;
#define BULK_BYTES (12u << 20)

static int to_pong[2], to_ping[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned long produced, consumed;
static _Thread_local volatile unsigned long ticks;

/* Keep the machine usable: a short pause now and then. */
static void breathe(void)
{
	struct timespec ts = { .tv_nsec = 200000 };

	t_check(nanosleep(&ts, NULL) == 0, "nanosleep, errno %d", errno);
}

static void *cpu(void *arg)
{
	uint64_t a = 1, b = 1;

	(void)arg;
	while (!stop) {
		for (int i = 0; i < 2000; i++)
			a = t_pattern(a);
		for (int i = 0; i < 2000; i++)
			b = t_pattern(b);
		if (!t_check(a == b, "two equal computations: %#lx %#lx", a, b))
			break;
		progress[CPU]++;
		breathe();
	}
	return NULL;
}

static void *vector(void *arg)
{
	double v[32], sum;

	(void)arg;
	while (!stop) {
		for (int i = 0; i < 32; i++)
			v[i] = 1.0 / (1u << i); /* exact, as all that follows */
		for (int round = 0; round < 300; round++)
			for (int i = 0; i < 32; i++)
				v[i] = v[i] * 1.5 - v[i] * 0.5;
		sum = 0;
		for (int i = 0; i < 32; i++)
			sum += fabs(v[i] - 1.0 / (1u << i));
		if (!t_check(sum == 0, "vector registers: %g", sum))
			break;
		progress[VECTOR]++;
		breathe();
	}
	return NULL;
}

static void *sleeper(void *arg)
{
	(void)arg;
	while (!stop) {
		struct timespec a, b, ts = { .tv_nsec = 1000000 };
		int64_t ns;

		t_sys(clock_gettime(CLOCK_MONOTONIC, &a));
		t_check(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL) == 0, "clock_nanosleep");
		t_sys(clock_gettime(CLOCK_MONOTONIC, &b));
		ns = (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec;
		t_check(ns >= 1000000, "a sleep of 1 ms: %ld ns", ns);
		progress[SLEEP]++;
	}
	return NULL;
}

static void *ping(void *arg)
{
	unsigned long n = 0, back;

	(void)arg;
	while (!stop) {
		n++;
		t_check(write(to_pong[1], &n, sizeof(n)) == sizeof(n), "ping writes, errno %d", errno);
		t_check(read(to_ping[0], &back, sizeof(back)) == sizeof(back), "ping reads, errno %d",
			errno);
		t_check(back == n * 3, "pong of %lu: %lu", n, back);
		progress[PING]++;
		breathe();
	}
	close(to_pong[1]);
	return NULL;
}

static void *pong(void *arg)
{
	unsigned long n;
	ssize_t r;

	(void)arg;
	while ((r = read(to_pong[0], &n, sizeof(n))) == sizeof(n)) {
		n *= 3;
		t_check(write(to_ping[1], &n, sizeof(n)) == sizeof(n), "pong writes, errno %d", errno);
		progress[PONG]++;
	}
	t_check(r == 0, "pong reads: %zd errno %d", r, errno);
	return NULL;
}

static void *consumer(void *arg)
{
	(void)arg;
	t_zero(pthread_mutex_lock(&lock));
	while (!stop) {
		while (produced == consumed && !stop)
			t_zero(pthread_cond_wait(&cond, &lock));
		consumed = produced;
		progress[WAIT]++;
		t_zero(pthread_cond_signal(&cond));
	}
	t_zero(pthread_mutex_unlock(&lock));
	return NULL;
}

static void *producer(void *arg)
{
	(void)arg;
	while (!stop) {
		t_zero(pthread_mutex_lock(&lock));
		produced++;
		t_zero(pthread_cond_signal(&cond));
		while (consumed != produced && !stop)
			t_zero(pthread_cond_wait(&cond, &lock));
		t_zero(pthread_mutex_unlock(&lock));
		progress[POST]++;
		breathe();
	}
	t_zero(pthread_cond_broadcast(&cond));
	return NULL;
}

static void on_tick(int sig)
{
	(void)sig;
	ticks++;
}

/* The only thread that takes this signal, sent by a timer. */
static void *ticker(void *arg)
{
	struct itimerspec spec = { { 0, 2000000 }, { 0, 2000000 } };
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3 };
	timer_t timer;
	sigset_t set;

	(void)arg;
	ev._sigev_un._tid = t_gettid();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	t_zero(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
	t_sys(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	t_sys(timer_settime(timer, 0, &spec, NULL));
	while (!stop) {
		unsigned long before = ticks;

		/* Interrupted by its own signal only. */
		for (int i = 0; i < 1000 && ticks == before && !stop; i++)
			(void)poll(NULL, 0, 100);
		t_check(ticks != before || stop, "the timer ticks");
		progress[TICK]++;
	}
	t_sys(timer_delete(timer));
	return NULL;
}

static void *memory(void *arg)
{
	(void)arg;
	for (uint64_t n = 0; !stop; n++) {
		size_t len = 4096 * (1 + n % 64);
		uint64_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		char *q = malloc(1 + n % 100000);

		if (!t_check(p != MAP_FAILED && q, "memory, errno %d", errno))
			break;
		for (size_t i = 0; i < len / 8; i += 64)
			p[i] = t_pattern(n + i);
		sched_yield();
		for (size_t i = 0; i < len / 8; i += 64)
			if (!t_check(p[i] == t_pattern(n + i), "word %zu of %zu bytes", i, len))
				break;
		t_sys(munmap(p, len));
		free(q);
		progress[MEMORY]++;
		breathe();
	}
	return NULL;
}

static void *child_thread(void *arg)
{
	return (void *)(uintptr_t)t_pattern((uintptr_t)arg);
}

static void *threads(void *arg)
{
	(void)arg;
	for (uint64_t n = 0; !stop; n++) {
		pthread_t th = t_thread(child_thread, (void *)(uintptr_t)n);
		void *ret = NULL;

		t_zero(pthread_join(th, &ret));
		t_check((uintptr_t)ret == t_pattern(n), "result of a thread");
		progress[THREADS]++;
		breathe();
	}
	return NULL;
}

static void *poller(void *arg)
{
	(void)arg;
	while (!stop) {
		struct timeval tv = { 0, 1500 };

		t_check(poll(NULL, 0, 1) == 0, "poll, errno %d", errno);
		t_check(select(0, NULL, NULL, NULL, &tv) == 0, "select, errno %d", errno);
		progress[POLL]++;
	}
	return NULL;
}

#define SHARED_BYTES (64u << 10)

int main(int argc, char **argv)
{
	static void *(*const fn[COUNT])(void *) = {
		[CPU] = cpu,	   [VECTOR] = vector, [SLEEP] = sleeper, [PING] = ping,
		[PONG] = pong,	   [WAIT] = consumer, [POST] = producer, [TICK] = ticker,
		[MEMORY] = memory, [THREADS] = threads, [POLL] = poller,
	};
	struct sigaction sa = { .sa_handler = on_tick };
	pthread_t th[COUNT];
	sigset_t set;
	int fd;
	uint64_t *bulk, *shared;
	size_t wrong = 0;

	t_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	t_sys(sigprocmask(SIG_BLOCK, &set, NULL));
	t_sys(sigaction(SIGRTMIN + 3, &sa, NULL));
	fd = (int)t_sys(open(t_path("progress"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
	t_sys(ftruncate(fd, 4096));
	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (progress == MAP_FAILED)
		t_die(__FILE__, __LINE__, "mmap");
	close(fd);
	/* Large enough that a dump copies it from a snapshot while this program runs on. */
	bulk = malloc(BULK_BYTES);
	for (size_t i = 0; i < BULK_BYTES / 8; i++)
		bulk[i] = t_pattern(i);
	/* Contents that belong to no address space. */
	fd = (int)t_sys(open(t_path("gone"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
	t_sys(ftruncate(fd, SHARED_BYTES));
	t_sys(unlink(t_path("gone")));
	shared = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		t_die(__FILE__, __LINE__, "mmap");
	for (size_t i = 0; i < SHARED_BYTES / 8; i++)
		shared[i] = t_pattern(~i);
	t_sys(pipe(to_pong));
	t_sys(pipe(to_ping));
	for (int i = 0; i < COUNT; i++)
		th[i] = t_thread(fn[i], NULL);
	for (int i = 0; i < COUNT; i++)
		t_until(progress[i] > 2, "every thread makes progress");
	t_ready();
	for (size_t i = 0; i < SHARED_BYTES / 8; i++)
		wrong += shared[i] != t_pattern(~i);
	t_check(!wrong, "%zu words of shared memory are wrong", wrong);
	wrong = 0;
	stop = true;
	t_zero(pthread_mutex_lock(&lock));
	t_zero(pthread_cond_broadcast(&cond));
	t_zero(pthread_mutex_unlock(&lock));
	for (int i = 0; i < COUNT; i++)
		t_zero(pthread_join(th[i], NULL));
	for (size_t i = 0; i < BULK_BYTES / 8; i++)
		wrong += bulk[i] != t_pattern(i);
	t_check(!wrong, "%zu words of the large memory", wrong);
	return t_done();
}
