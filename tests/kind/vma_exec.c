/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Code made at run time: execute-only, read-execute, and aliased write and execute mappings of one memfd (a JIT). */
#include "../lib/t.h"
#include "vma.h"

/* mov eax, imm32; ret */
static void emit(unsigned char *p, uint32_t v)
{
	p[0] = 0xb8;
	memcpy(p + 1, &v, 4);
	p[5] = 0xc3;
}

static uint32_t call(unsigned char *p)
{
	uint32_t (*fn)(void);

	memcpy(&fn, &p, sizeof(fn));
	return fn();
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *xo = vma_map_apart(PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char *rx = vma_map_apart(PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd = memfd_create("jit", MFD_CLOEXEC);
	VMA_NEED(fd >= 0 && ftruncate(fd, 4 * PG) == 0);
	unsigned char *w = mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *x = mmap(NULL, 4 * PG, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	VMA_NEED(w != MAP_FAILED && x != MAP_FAILED);
	close(fd);
	emit(xo, 11);
	emit(rx, 12);
	emit(w, 13);
	VMA_NEED(!mprotect(xo, PG, PROT_EXEC) && !mprotect(rx, PG, PROT_READ | PROT_EXEC));
	char line[300];

	t_ready();

	t_check(call(xo) == 11, "execute-only code runs");
	t_check(call(rx) == 12, "read-execute code runs");
	t_check(call(x) == 13, "code in a memfd runs");
	emit(w + 100, 14);
	t_check(call(x + 100) == 14, "code written through the other mapping runs");
	vma_line(xo, line, sizeof(line));
	t_check(strstr(line, " --xp "), "execute-only: %s", line);
	return t_done();
}
