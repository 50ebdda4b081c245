// SPDX-License-Identifier: GPL-2.0-only
/* What processes share after a fork: shared anonymous memory, a pipe, a semaphore, file
 * offsets. Private memory stays private. */
#include "t.h"

#include <semaphore.h>
#include <sys/mman.h>

struct shared {
	sem_t ping, pong;
	atomic_int count;
};

static struct shared *s;
static int private_word = 1;

int main(int argc, char **argv)
{
	pid_t child;
	int link[2], file;
	char c;

	t_init(argc, argv);
	s = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		t_die(__FILE__, __LINE__, "mmap");
	t_sys(sem_init(&s->ping, 1, 0));
	t_sys(sem_init(&s->pong, 1, 0));
	t_sys(pipe(link));
	file = (int)t_sys(open(t_path("file"), O_RDWR | O_CREAT, 0600));
	t_check(write(file, "0123456789", 10) == 10 && lseek(file, 2, SEEK_SET) == 2, "a file");
	child = t_fork();
	if (child == 0) {
		private_word = 2;
		/* A futex in shared memory, held across the checkpoint. */
		for (int i = 0; i < 100; i++) {
			while (sem_wait(&s->ping) < 0)
				t_check(errno == EINTR, "sem_wait");
			s->count++;
			t_sys(sem_post(&s->pong));
		}
		t_check(private_word == 2, "private memory: %d", private_word);
		t_check(read(file, &c, 1) == 1 && c == '3', "the shared offset moved: %c", c);
		t_check(read(link[0], &c, 1) == 1 && c == 'p', "the pipe: %c", c);
		_exit(t_status());
	}
	t_until_asleep(child, child, SYS_futex);
	t_ready();
	t_check(private_word == 1, "private memory: %d", private_word);
	t_check(read(file, &c, 1) == 1 && c == '2', "file offset: %c", c);
	for (int i = 0; i < 100; i++) {
		t_sys(sem_post(&s->ping));
		while (sem_wait(&s->pong) < 0)
			t_check(errno == EINTR, "sem_wait");
		if (!t_check(s->count == i + 1, "round %d: count %d", i, s->count))
			break;
	}
	t_check(write(link[1], "p", 1) == 1, "write to the pipe");
	t_reap(child, 0);
	return t_done();
}
