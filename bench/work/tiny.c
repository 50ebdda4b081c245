/* SPDX-License-Identifier: GPL-2.0-only */
/* A small program: tiny REPORT */
#include "beat.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	beat_init();
	beat_run(argv[1], NULL);
}
