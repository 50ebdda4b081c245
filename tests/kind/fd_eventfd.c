// SPDX-License-Identifier: GPL-2.0-only
/* Eventfds: counter, semaphore mode, flags. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/eventfd.h>

int main(int argc, char **argv)
{
	const uint64_t huge = 0xfffffffffffffffeull;
	int plain, zero, sem, max;
	uint64_t v;

	fd_init(argc, argv);
	plain = (int)MUST(eventfd(7, EFD_CLOEXEC));
	MUST(write(plain, &(uint64_t) { 0x100000000 }, 8));
	zero = (int)MUST(eventfd(0, EFD_NONBLOCK));
	sem = (int)MUST(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	max = (int)MUST(eventfd(0, EFD_NONBLOCK));
	MUST(write(max, &huge, 8));

	t_ready();

	t_check(fcntl(plain, F_GETFD) == FD_CLOEXEC && !(fcntl(plain, F_GETFL) & O_NONBLOCK),
		"flags");
	t_check(read(plain, &v, 8) == 8 && v == 0x100000007, "value %llx", (long long)v);
	t_check(read(zero, &v, 8) < 0 && errno == EAGAIN, "zero");
	t_check(!fd_poll(zero, POLLIN), "zero is readable");
	for (int i = 0; i < 3; i++)
		t_check(read(sem, &v, 8) == 8 && v == 1, "semaphore, take %d: %lld", i,
			(long long)v);
	t_check(read(sem, &v, 8) < 0 && errno == EAGAIN, "semaphore has a fourth");
	t_check(write(max, &(uint64_t) { 1 }, 8) < 0 && errno == EAGAIN, "maximum has room");
	t_check(read(max, &v, 8) == 8 && v == huge, "maximum %llx", (long long)v);
	return t_done();
}
