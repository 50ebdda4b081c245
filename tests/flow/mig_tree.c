// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a tree that changes while it is moved, one step for
 * each SIGUSR1 (the file "stepN" says that it is done). Each process knows its
 * memory, its session, its group and its parent. Argument after the directory:
 * MiB of memory of each.
 *
 *	root ── A  B(setsid)─B2  E  P─Q  X  Z  S, D(share descriptors, directories with root)
 *	step 1: X ends, P ends and root adopts Q, E begins a session, Z becomes a zombie, Y is born
 *	step 2: Y begins a session and has a child Y2, A changes what it has of the pages of root
 */
#include "t.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>

#define PAGE 4096u
#define COW_PAGES 512u

enum { ROOT, A, B, B2, E, P, Q, X, Z, S, D, Y, Y2, WHO };

struct member {
	atomic_int ready;
	atomic_int step; /* the last one that it has made */
	atomic_int pid, ppid, sid, pgid;
	atomic_ulong word; /* written after the move */
};

static struct board {
	atomic_int step;
	atomic_bool go;
	struct member who[WHO];
} *board;

static uint64_t *cow, *shared_file, *segment;
static size_t npages;

static uint64_t number(int me, size_t page, size_t word)
{
	return t_pattern((uint64_t)me << 40 | page << 12 | word);
}

static void fill(uint64_t *mem, int me, size_t n)
{
	for (size_t p = 0; p < n; p++)
		for (size_t w = 0; w < PAGE / 8; w += 64)
			mem[p * (PAGE / 8) + w] = number(me, p, w);
}

static void verify(const uint64_t *mem, int me, size_t n, const char *what)
{
	size_t bad = 0;

	for (size_t p = 0; p < n; p++)
		for (size_t w = 0; w < PAGE / 8; w++)
			bad += mem[p * (PAGE / 8) + w] != (w % 64 ? 0 : number(me, p, w));
	t_check(!bad, "%zu words of %s of process %d are wrong", bad, what, me);
}

static void note(int me)
{
	struct member *m = &board->who[me];

	m->pid = getpid();
	m->ppid = getppid();
	m->sid = getsid(0);
	m->pgid = getpgid(0);
}

static void same(int me)
{
	struct member *m = &board->who[me];

	t_check(m->pid == getpid() && (me == ROOT || m->ppid == getppid()) && m->sid == getsid(0) &&
			m->pgid == getpgid(0),
		"process %d is %d, child of %d, in session %d and group %d; it was %d, %d, %d, %d", me,
		getpid(), getppid(), getsid(0), getpgid(0), m->pid, m->ppid, m->sid, m->pgid);
}

static pid_t life(int me, unsigned long flags);

static void step_of(int me, int step)
{
	if (step == 1 && (me == X || me == P))
		_exit(t_status());
	if (step == 1 && me == Z)
		_exit(7);
	if (step == 1 && me == Q) {
		t_until(getppid() == board->who[ROOT].pid, "the root adopts it");
		note(me);
	}
	if ((step == 1 && me == E) || (step == 2 && me == Y)) {
		t_sys(setsid());
		note(me);
	}
	if (step == 2 && me == Y)
		life(Y2, 0);
	if (step == 2 && me == A)
		fill(cow, A, COW_PAGES / 2);
}

static void stay(int me)
{
	uint64_t *mem = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int step = board->step;
	bool own;

	if (mem == MAP_FAILED)
		t_die(__FILE__, __LINE__, "memory");
	fill(mem, me, npages);
	if (me == B)
		t_sys(setsid());
	note(me);
	if (me == B)
		life(B2, 0);
	if (me == P)
		life(Q, 0);
	board->who[me].step = step;
	board->who[me].ready = 1;
	while (!board->go) {
		if (board->step > step) {
			step_of(me, ++step);
			board->who[me].step = step;
		}
		t_tick();
	}
	verify(mem, me, npages, "the memory");
	if (me == D)
		t_check(umask(0123) == 077, "the umask of D");
	same(me);
	own = me == A && step > 1;
	verify(cow, own ? A : ROOT, own ? COW_PAGES / 2 : COW_PAGES, "the pages that all share");
	/* What is shared is one thing for all. */
	board->who[me].word = number(me, 1, 1);
	shared_file[me] = number(me, 2, 2);
	segment[me] = number(me, 3, 3);
	if (me == B || me == P || (me == Y && step > 1))
		t_reap(board->who[me == B ? B2 : me == P ? Q : Y2].pid, 0);
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

static void *steps(void *arg)
{
	sigset_t usr1;
	int sig;

	(void)arg;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	for (int step = 1; step <= 2; step++) {
		if (sigwait(&usr1, &sig))
			break;
		board->step = step;
		for (int i = A; i < Y; i++)
			if (board->who[i].ready && !(step > 1 && (i == X || i == P || i == Z)) &&
			    i != X && i != P && i != Z)
				t_until(board->who[i].step == step, "a child makes its step");
		if (step == 1) {
			siginfo_t info;

			t_reap(board->who[X].pid, 0);
			t_reap(board->who[P].pid, 0);
			t_sys(waitid(P_PID, (id_t)board->who[Z].pid, &info, WEXITED | WNOWAIT));
			life(Y, 0);
		} else {
			t_until(board->who[Y].step == step, "the late child makes its step");
		}
		t_step_done(step);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static const int reaped[] = { A, B, E, S, D, Q, Y };
	sigset_t usr1;
	int fd, id;

	t_init(argc, argv);
	if (argc < 3)
		return 2;
	npages = strtoul(argv[2], NULL, 10) << 8;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	t_sys(sigprocmask(SIG_BLOCK, &usr1, NULL));
	t_sys(prctl(PR_SET_CHILD_SUBREAPER, 1));
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cow = mmap(NULL, COW_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = (int)t_sys(memfd_create("shared", MFD_CLOEXEC));
	t_sys(ftruncate(fd, 64 * PAGE));
	shared_file = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	id = (int)t_sys(shmget(IPC_PRIVATE, 64 * PAGE, 0600));
	segment = shmat(id, NULL, 0);
	t_sys(shmctl(id, IPC_RMID, NULL));
	if (board == MAP_FAILED || cow == MAP_FAILED || shared_file == MAP_FAILED)
		t_die(__FILE__, __LINE__, "memory");
	fill(cow, ROOT, COW_PAGES);
	note(ROOT);
	for (int i = A; i < Y; i++)
		if (i != B2 && i != Q)
			life(i, i == S ? CLONE_FILES : i == D ? CLONE_FS : 0);
	t_thread(steps, NULL);
	umask(077);
	t_ready();
	same(ROOT);
	verify(cow, ROOT, COW_PAGES, "the pages that all share");
	board->go = true;
	for (size_t i = 0; i < T_ARRAY_SIZE(reaped); i++) {
		/* The one is its child, and the other there, since the first step. */
		if ((reaped[i] == Q || reaped[i] == Y) && !board->step)
			continue;
		t_reap(board->who[reaped[i]].pid, 0);
		t_check(board->who[reaped[i]].word == number(reaped[i], 1, 1), "shared memory of %d", reaped[i]);
		t_check(shared_file[reaped[i]] == number(reaped[i], 2, 2), "the memory file of %d", reaped[i]);
		t_check(segment[reaped[i]] == number(reaped[i], 3, 3), "the segment of %d", reaped[i]);
	}
	t_check(umask(022) == 0123, "the umask that D has set");
	t_reap(board->who[Z].pid, board->step ? 7 : 0);
	if (!board->step) {
		t_reap(board->who[P].pid, 0);
		t_reap(board->who[X].pid, 0);
	}
	return t_done();
}
