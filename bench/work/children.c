/* SPDX-License-Identifier: GPL-2.0-only */
/* A tree of processes: children REPORT COUNT; each child wrote to a page of its own. */
#include "beat.h"

static volatile char page[4096];

int main(int argc, char **argv)
{
	sigset_t none;

	if (argc != 3)
		return 2;
	beat_init();
	sigemptyset(&none);
	for (long i = atol(argv[2]); i > 0; i--) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid == 0) {
			page[i % 4096] = 1;
			for (;;)
				sigsuspend(&none);
		}
	}
	beat_run(argv[1], NULL);
}
