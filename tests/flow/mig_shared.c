// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: processes that share memory of every kind, and go on writing to it while
 * they are moved. Every page has one writer, who alone knows, in memory of its own, what he wrote
 * last. SIGUSR1 makes everybody do more at once (the file "stepN" says that it is done): children are
 * born, write and end; what has a length is cut and made longer; holes are made and filled. Arguments
 * after the directory: MiB in all; the key of a segment that stays, or 0; "quiet": nothing is written
 * between the steps.
 */
#include "t.h"

#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>

#define PAGE 4096u
#define WRITERS 3u
#define SPARSE 64u /* of so many pages one is written */
#define BATCH 96u

enum { ANON, MEMFD, REMOVED, KEYED, GHOST, HOLES, BY_WRITE, LENGTH, OBJECTS };
static const char *const names[] = { "anonymous", "memfd",  "removed segment", "segment",
				     "removed file", "sparse", "unmapped",	      "cut" };

static struct object {
	char *map; /* NULL: read and written by descriptor */
	int fd;
	size_t pages;
	uint32_t *last; /* what this process wrote to its pages; 0: nothing */
} o[OBJECTS];

static struct board {
	atomic_int step, made[WRITERS];
	atomic_bool go;
	atomic_ulong word[WRITERS];
} *board;

static bool quiet;

static uint64_t word_of(unsigned int obj, size_t page, uint32_t what, size_t w)
{
	return what ? t_pattern((uint64_t)obj << 56 | (uint64_t)what << 32 | page << 9 | w) : 0;
}

static void put(unsigned int obj, size_t page, uint32_t what)
{
	uint64_t buf[PAGE / 8];

	for (size_t w = 0; w < PAGE / 8; w++)
		buf[w] = word_of(obj, page, what, w);
	if (o[obj].map)
		memcpy(o[obj].map + page * PAGE, buf, PAGE);
	else
		t_check(pwrite(o[obj].fd, buf, PAGE, (off_t)(page * PAGE)) == PAGE, "written: page %zu of %s", page,
			names[obj]);
}

static bool mine(unsigned int me, unsigned int obj, size_t page)
{
	if (obj == LENGTH)
		return me == 2;
	if (obj == HOLES)
		return page % SPARSE == 0 && page / SPARSE % WRITERS == me;
	return page % WRITERS == me;
}

static void again(unsigned int me, unsigned int obj, size_t page)
{
	if (page < o[obj].pages && mine(me, obj, page))
		put(obj, page, ++o[obj].last[page]);
}

static void verify(unsigned int me, unsigned int obj)
{
	size_t bad = 0, first = 0;
	uint64_t buf[PAGE / 8];

	for (size_t page = 0; page < o[obj].pages; page++) {
		const uint64_t *is = (const uint64_t *)(o[obj].map + page * PAGE);
		uint32_t what = o[obj].last[page];
		bool wrong = false;

		if (!mine(me, obj, page))
			continue;
		if (!o[obj].map) {
			ssize_t n = pread(o[obj].fd, buf, PAGE, (off_t)(page * PAGE));

			if (n < (ssize_t)PAGE)
				memset((char *)buf + (n > 0 ? n : 0), 0, PAGE - (size_t)(n > 0 ? n : 0));
			is = buf;
		}
		for (size_t w = 0; w < PAGE / 8 && !wrong; w++)
			wrong = is[w] != word_of(obj, page, what, w);
		if (wrong && !bad++)
			first = page;
	}
	t_check(!bad, "%zu pages of writer %u in %s are wrong, the first is %zu", bad, me, names[obj], first);
}

/* Its writes are this writer's; it knows of them before they are made. */
static void by_child(unsigned int me, int step)
{
	pid_t pid;

	for (unsigned int obj = 0; obj < OBJECTS; obj++)
		for (size_t page = (size_t)step * 7; obj != LENGTH && page < o[obj].pages && page < BATCH + (size_t)step * 7; page++)
			if (mine(me, obj, page))
				o[obj].last[page]++;
	pid = t_fork();
	if (!pid) {
		for (unsigned int obj = 0; obj < OBJECTS; obj++)
			for (size_t page = (size_t)step * 7;
			     obj != LENGTH && page < o[obj].pages && page < BATCH + (size_t)step * 7; page++)
				if (mine(me, obj, page))
					put(obj, page, o[obj].last[page]);
		_exit(t_status());
	}
	t_reap(pid, 0);
}

static void punch(unsigned int me, size_t page)
{
	if (page >= o[HOLES].pages || !mine(me, HOLES, page))
		return;
	o[HOLES].last[page] = 0;
	t_sys(fallocate(o[HOLES].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE), PAGE));
}

/* Shorter by a third, then (step 2) as long as it was, some of it written anew, and half a page more. */
static void cut(int step)
{
	size_t n = o[LENGTH].pages, keep = n * 2 / 3;

	if (step % 2) {
		t_sys(ftruncate(o[LENGTH].fd, (off_t)(keep * PAGE)));
		memset(o[LENGTH].last + keep, 0, (n - keep) * sizeof(uint32_t));
		return;
	}
	t_sys(ftruncate(o[LENGTH].fd, (off_t)(n * PAGE + PAGE / 2)));
	for (size_t page = keep + 5; page < keep + 25; page++)
		again(2, LENGTH, page);
}

static void step_of(unsigned int me, int step)
{
	if (me)
		by_child(me, step);
	if (me == 2)
		cut(step);
	for (size_t k = 0; k < 40; k++)
		punch(me, (k * 3 + (size_t)step) * SPARSE);
	for (size_t k = 0; k < 20; k++)
		again(me, HOLES, (k * 5 + (size_t)step) * SPARSE);
	/* Zeros, and back: what was there once is no news. */
	if (me == 1)
		for (size_t page = 1; page < BATCH; page += WRITERS)
			put(ANON, page, step % 2 ? 0 : o[ANON].last[page]);
}

static void live(unsigned int me, const atomic_bool *end)
{
	uint64_t at = me;
	int step = 0;

	while (!*end) {
		if (board->step != step) {
			step_of(me, ++step);
			board->made[me] = step;
		}
		/* Few pages, again and again. */
		for (unsigned int obj = 0; !quiet && obj < OBJECTS; obj++) {
			size_t page = (size_t)(t_pattern(at++) % 64);

			if (obj != HOLES)
				again(me, obj, obj == LENGTH ? page : (page + 200) % o[obj].pages);
		}
		t_tick();
	}
	/* Its zeros were no mistake. */
	for (size_t page = 1; me == 1 && step % 2 && page < BATCH; page += WRITERS)
		put(ANON, page, o[ANON].last[page]);
}

static void verify_all(unsigned int me)
{
	for (unsigned int obj = 0; obj < OBJECTS; obj++)
		verify(me, obj);
}

static void *steps(void *arg)
{
	sigset_t usr1;
	int sig;

	(void)arg;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	for (int step = 1; !sigwait(&usr1, &sig); step++) {
		board->step = step;
		for (unsigned int i = 0; i < WRITERS; i++)
			t_until(board->made[i] == step, "a writer makes its step");
		t_step_done(step);
	}
	return NULL;
}

static void *root_lives(void *arg)
{
	(void)arg;
	live(0, &board->go);
	return NULL;
}

static void make(unsigned int obj, size_t pages, int fd)
{
	o[obj].pages = pages;
	o[obj].fd = fd;
	o[obj].last = calloc(pages, sizeof(uint32_t));
	if (fd >= 0)
		t_sys(ftruncate(fd, (off_t)(pages * PAGE)));
	if (obj != BY_WRITE && obj != LENGTH)
		o[obj].map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				  fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	if (o[obj].map == MAP_FAILED || !o[obj].last)
		t_die(__FILE__, __LINE__, "memory");
}

static int segment(unsigned int obj, size_t pages, key_t key)
{
	int id = (int)t_sys(shmget(key, pages * PAGE - 100, IPC_CREAT | IPC_EXCL | 0640));

	/* What is behind its end in its last page is nobody's. */
	o[obj].pages = pages - 1;
	o[obj].fd = -1;
	o[obj].last = calloc(pages, sizeof(uint32_t));
	o[obj].map = shmat(id, NULL, 0);
	if (o[obj].map == (void *)-1 || !o[obj].last)
		t_die(__FILE__, __LINE__, "memory");
	return id;
}

int main(int argc, char **argv)
{
	pid_t kids[WRITERS] = { 0 };
	struct shmid_ds ds;
	struct stat st;
	pthread_t own;
	sigset_t usr1;
	size_t unit;
	int id = -1, fd;
	key_t key;

	t_init(argc, argv);
	if (argc < 4)
		return 2;
	/* Of eighths of what is asked for. */
	unit = strtoul(argv[2], NULL, 10) * 256 / 8;
	key = (key_t)strtoul(argv[3], NULL, 0);
	quiet = argc > 4 && !strcmp(argv[4], "quiet");
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	t_sys(sigprocmask(SIG_BLOCK, &usr1, NULL));
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		t_die(__FILE__, __LINE__, "memory");
	make(ANON, 2 * unit, -1);
	make(MEMFD, unit, (int)t_sys(memfd_create("mapped", MFD_CLOEXEC)));
	fd = segment(REMOVED, unit, IPC_PRIVATE);
	t_sys(shmctl(fd, IPC_RMID, NULL));
	if (key) {
		id = segment(KEYED, unit, key);
		fd = (int)t_sys(open(t_path("segment"), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
		dprintf(fd, "%d", id);
		close(fd);
	}
	fd = (int)t_sys(open(t_path("ghost"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	t_sys(unlink(t_path("ghost")));
	make(GHOST, unit, fd);
	make(HOLES, 16 * unit, (int)t_sys(memfd_create("holes", MFD_CLOEXEC)));
	make(BY_WRITE, unit, (int)t_sys(memfd_create("a name that needs some more room than most do", MFD_CLOEXEC)));
	make(LENGTH, unit, (int)t_sys(memfd_create("length", MFD_CLOEXEC)));
	for (unsigned int me = 0; me < WRITERS; me++) {
		kids[me] = me ? t_fork() : 0;
		if (me && kids[me])
			continue;
		for (unsigned int obj = 0; obj < OBJECTS; obj++)
			for (size_t page = 0; page < o[obj].pages; page++)
				again(me, obj, page);
		if (!me)
			continue;
		board->made[me] = 0;
		board->word[me] = 1;
		live(me, &board->go);
		verify_all(me);
		board->word[me] = t_pattern(me);
		_exit(t_status());
	}
	for (unsigned int me = 1; me < WRITERS; me++)
		t_until(board->word[me] == 1, "a child has written all");
	t_thread(steps, NULL);
	own = t_thread(root_lives, NULL);
	t_ready();
	board->go = true;
	t_zero(pthread_join(own, NULL));
	verify_all(0);
	for (unsigned int me = 1; me < WRITERS; me++) {
		t_reap(kids[me], 0);
		t_check(board->word[me] == t_pattern(me), "child %u shares the memory", me);
	}
	t_sys(fstat(o[HOLES].fd, &st));
	t_check((size_t)st.st_size == 16 * unit * PAGE && (size_t)st.st_blocks * 512 <= (16 * unit / SPARSE + 1) * PAGE,
		"holes: %llu bytes in %llu blocks", (unsigned long long)st.st_size, (unsigned long long)st.st_blocks);
	t_sys(fstat(o[LENGTH].fd, &st));
	t_check((size_t)st.st_size == (board->step % 2 ? unit * 2 / 3 * PAGE
				       : board->step   ? unit * PAGE + PAGE / 2
						       : unit * PAGE),
		"the length: %llu", (unsigned long long)st.st_size);
	if (key) {
		t_sys(shmctl(id, IPC_STAT, &ds));
		t_check(ds.shm_perm.__key == key && (ds.shm_perm.mode & 0777) == 0640 && ds.shm_segsz == unit * PAGE - 100 &&
				ds.shm_nattch == 1,
			"the segment: key %x, mode %o, %zu bytes, attached %lu times", ds.shm_perm.__key, ds.shm_perm.mode,
			ds.shm_segsz, (unsigned long)ds.shm_nattch);
		t_sys(shmctl(id, IPC_RMID, NULL));
	}
	return t_done();
}
