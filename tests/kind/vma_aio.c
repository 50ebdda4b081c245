/* SPDX-License-Identifier: GPL-2.0-only */
/* t: refuse=E-UNSUPPORTED "AIO" */
/* A kernel AIO context cannot be saved yet: refused by name, and the program goes on. */
#include "../lib/t.h"
#include "vma.h"
#include <linux/aio_abi.h>

int main(int argc, char **argv)
{
	t_init(argc, argv);

	aio_context_t ctx = 0;

	if (syscall(SYS_io_setup, 16, &ctx) < 0)
		t_skip("AIO: %s", strerror(errno));

	t_ready();

	t_check(syscall(SYS_io_destroy, ctx) == 0, "the context is there");
	return t_done();
}
