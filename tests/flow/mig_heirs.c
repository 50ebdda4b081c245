// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: processes that share memory copy-on-write since a fork, are moved, and go on writing to it
 * meanwhile. Each knows what every page of its own has to be. Arguments after the directory: MiB of memory, and
 * "hot" when they write all the time. SIGUSR1 is a step; the file "stepN" says that it is done.
 *
 *	root ── A(rewrites, drops)─A2(rewrites)  B(its heap grows)  C(maps anew)  P─Q  S(shares descriptors with root)
 *	step 1: root and A rewrite what others share; P ends and root adopts Q; Y is born
 *	step 2: A drops, A2 and Y rewrite, B's heap grows again
 */
#include "t.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE 4096u
#define WORDS (PAGE / 8)
#define NOTHING 0u /* a page of zeros */

enum { ROOT, A, A2, B, C, P, Q, S, Y, WHO };

struct member {
	atomic_int ready, step, pid;
};

static struct board {
	atomic_int step;
	atomic_bool go;
	struct member who[WHO];
} *board;

/* Pages and, of each, which version of it this process has. */
struct region {
	uint64_t *mem;
	uint32_t *want;
	size_t n;
};

static struct region pool, heap;
static size_t npages;
static bool hot;

static uint64_t number(uint32_t version, size_t page, size_t word)
{
	return t_pattern((uint64_t)version << 32 | page << 9 | word);
}

static void *memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		t_die(__FILE__, __LINE__, "memory");
	return p;
}

static void put(struct region *r, uint32_t version, size_t from, size_t to)
{
	for (size_t p = from; p < to; p++) {
		for (size_t w = 0; w < WORDS; w += 64)
			r->mem[p * WORDS + w] = number(version, p, w);
		r->want[p] = version;
	}
}

static void drop(struct region *r, size_t from, size_t to)
{
	t_sys(madvise(r->mem + from * WORDS, (to - from) * PAGE, MADV_DONTNEED));
	for (size_t p = from; p < to; p++)
		r->want[p] = NOTHING;
}

static void grow(struct region *r, uint32_t version, size_t n)
{
	if (sbrk((intptr_t)(n * PAGE)) != (void *)(r->mem + r->n * WORDS))
		t_die(__FILE__, __LINE__, "sbrk");
	r->n += n;
	put(r, version, r->n - n, r->n);
}

static void verify(const struct region *r, int me, const char *what)
{
	size_t bad = 0, first = 0;

	for (size_t p = 0; p < r->n; p++)
		for (size_t w = 0; w < WORDS; w++)
			if (r->mem[p * WORDS + w] != (w % 64 || !r->want[p] ? 0 : number(r->want[p], p, w)) && !bad++)
				first = p;
	t_check(!bad, "%zu words of the %s of process %d are wrong, the first in page %zu, version %u", bad, what, me, first,
		r->want[first]);
}

/* An eighth of the pool. */
static size_t part(size_t k)
{
	return npages / 8 * k;
}

static uint32_t version(int me, uint32_t n)
{
	return (uint32_t)(me + 1) << 24 | n;
}

static pid_t life(int me, unsigned long flags);

static void begin(int me)
{
	if (me == A) {
		put(&pool, version(A, 1), part(2), part(3));
		drop(&pool, part(3), part(3) + npages / 16);
		life(A2, 0);
	}
	if (me == A2)
		put(&pool, version(A2, 1), part(4), part(4) + npages / 16);
	if (me == B)
		grow(&heap, version(B, 1), npages / 8);
	if (me == C) {
		t_sys(munmap(pool.mem + part(5) * WORDS, npages / 8 * PAGE));
		if (mmap(pool.mem + part(5) * WORDS, npages / 8 * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			t_die(__FILE__, __LINE__, "memory");
		for (size_t p = part(5); p < part(6); p++)
			pool.want[p] = NOTHING;
		put(&pool, version(C, 1), part(5), part(5) + npages / 16);
	}
	if (me == P)
		life(Q, 0);
}

static void step_of(int me, int step)
{
	if (step == 1 && me == A)
		put(&pool, version(A, 2), part(5), part(5) + npages / 32);
	if (step == 1 && me == P)
		_exit(t_status());
	if (step == 2 && me == A)
		drop(&pool, part(1), part(1) + npages / 16);
	if (step == 2 && (me == A2 || me == Y))
		put(&pool, version(me, 2), part(0), part(0) + npages / 32);
	if (step == 2 && me == B)
		grow(&heap, version(B, 2), npages / 16);
}

/* Some writes here and there. */
static void write_on(int me, uint32_t *n)
{
	size_t from = npages - npages / 8;

	for (int i = 0; hot && i < 16; i++) {
		size_t p = from + t_pattern(++*n) % (npages - from);

		put(&pool, version(me, *n), p, p + 1);
	}
}

static void stay(int me)
{
	int step = board->step;
	uint32_t n = 1000;

	begin(me);
	board->who[me].pid = getpid();
	board->who[me].step = step;
	board->who[me].ready = 1;
	while (!board->go) {
		if (board->step > step) {
			step_of(me, ++step);
			board->who[me].step = step;
		}
		write_on(me, &n);
		t_tick();
	}
	verify(&pool, me, "pool");
	verify(&heap, me, "heap");
	if (me == A)
		t_reap(board->who[A2].pid, 0);
	if (me == P)
		t_reap(board->who[Q].pid, 0);
	_exit(t_status());
}

static pid_t life(int me, unsigned long flags)
{
	pid_t pid = t_clone(flags);

	if (!pid)
		stay(me);
	t_until(board->who[me].ready, "a child is ready");
	return pid;
}

static void make_step(int step)
{
	if (step == 1) {
		put(&pool, version(ROOT, 3), part(6), part(6) + npages / 32);
		put(&heap, version(ROOT, 3), 0, heap.n / 4);
		life(Y, 0);
	}
	board->step = step;
	for (int i = A; i < WHO; i++)
		if (i != P)
			t_until(board->who[i].step == step, "a child makes its step");
	if (step == 1)
		t_reap(board->who[P].pid, 0);
	t_step_done(step);
}

static void *root_life(void *arg)
{
	const struct timespec now = { 0 };
	uint32_t n = 1000;
	sigset_t usr1;
	int step = 0;

	(void)arg;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	while (!board->go) {
		if (sigtimedwait(&usr1, NULL, &now) == SIGUSR1)
			make_step(++step);
		write_on(ROOT, &n);
		t_tick();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static const int reaped[] = { A, B, C, P, S, Q, Y };
	pthread_t thread;
	sigset_t usr1;

	t_init(argc, argv);
	if (argc < 3)
		return 2;
	npages = strtoul(argv[2], NULL, 10) << 8;
	hot = argc > 3 && !strcmp(argv[3], "hot");
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	t_sys(sigprocmask(SIG_BLOCK, &usr1, NULL));
	t_sys(prctl(PR_SET_CHILD_SUBREAPER, 1));
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		t_die(__FILE__, __LINE__, "memory");
	pool = (struct region) { memory(npages * PAGE), memory(npages * 4), npages };
	put(&pool, version(ROOT, 1), 0, npages);
	t_sys(brk((void *)(((uintptr_t)sbrk(0) + PAGE - 1) & ~(uintptr_t)(PAGE - 1))));
	heap = (struct region) { sbrk(0), memory(npages * 4), 0 };
	grow(&heap, version(ROOT, 1), npages / 4);
	for (int i = A; i < Y; i++)
		if (i != A2 && i != Q)
			life(i, i == S ? CLONE_FILES : 0);
	put(&pool, version(ROOT, 2), part(0), part(1));
	thread = t_thread(root_life, NULL);
	t_ready();
	board->go = true;
	t_zero(pthread_join(thread, NULL));
	verify(&pool, ROOT, "pool");
	verify(&heap, ROOT, "heap");
	for (size_t i = 0; i < T_ARRAY_SIZE(reaped); i++)
		/* The first was reaped in the first step, which makes the two others children of the root. */
		if (reaped[i] == P ? !board->step : (reaped[i] != Q && reaped[i] != Y) || board->step)
			t_reap(board->who[reaped[i]].pid, 0);
	return t_done();
}
