/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Every advice that stays with a mapping, seen in its flags and in what a child inherits. */
#include "../lib/t.h"
#include "vma.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static const struct {
	const char *name;
	int advice;
	const char *flag;
} table[] = {
	{ "DONTFORK", MADV_DONTFORK, "dc" },	 { "WIPEONFORK", MADV_WIPEONFORK, "wf" },
	{ "HUGEPAGE", MADV_HUGEPAGE, "hg" },	 { "NOHUGEPAGE", MADV_NOHUGEPAGE, "nh" },
	{ "MERGEABLE", MADV_MERGEABLE, "mg" },	 { "DONTDUMP", MADV_DONTDUMP, "dd" },
	{ "SEQUENTIAL", MADV_SEQUENTIAL, "sr" }, { "RANDOM", MADV_RANDOM, "rr" },
};
#define N (sizeof(table) / sizeof(table[0]))

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *m[N], *f[N], *two, *freed, *dropped;
	bool set[N];
	int fd = vma_file(t_path("advice.dat"), 8 * PG, 9);
	char flags[300];

	for (size_t i = 0; i < N; i++) {
		m[i] = vma_map_apart(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		vma_fill(m[i], 4 * PG, i);
		/* a kernel may lack one (KSM, THP): then there is nothing to keep */
		set[i] = madvise(m[i], 8 * PG, table[i].advice) == 0;
		f[i] = mmap(NULL, 8 * PG, PROT_READ, MAP_SHARED, fd, 0);
		VMA_NEED(f[i] != MAP_FAILED);
		(void)madvise(f[i], 8 * PG, table[i].advice);
	}
	close(fd);
	two = vma_map_apart(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	vma_fill(two, PG, 70);
	VMA_NEED(!madvise(two, 8 * PG, MADV_DONTDUMP) && !madvise(two, 8 * PG, MADV_DONTFORK) &&
		 !madvise(two, 8 * PG, MADV_SEQUENTIAL));
	freed = vma_map_apart(64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	vma_fill(freed, 64 * PG, 71);
	VMA_NEED(madvise(freed, 32 * PG, MADV_FREE) == 0);
	dropped = vma_map_apart(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	vma_fill(dropped, 8 * PG, 72);
	VMA_NEED(madvise(dropped + 2 * PG, 3 * PG, MADV_DONTNEED) == 0);

	t_ready();

	for (size_t i = 0; i < N; i++) {
		vma_smaps(m[i], "VmFlags", flags, sizeof(flags));
		t_check(vma_flag(m[i], table[i].flag) == set[i], "%s: flags are%s", table[i].name, flags);
		for (size_t k = 0; k < N; k++)
			if (k != i)
				t_check(!vma_flag(m[i], table[k].flag), "%s alone: flags are%s", table[i].name, flags);
		t_check(vma_differs(m[i], 4 * PG, i) < 0, "%s: content", table[i].name);
	}
	t_check(vma_flag(f[0], "dc") && vma_flag(f[5], "dd") && vma_flag(f[6], "sr") && vma_flag(f[7], "rr"),
		"advice on a file mapping");
	t_check(vma_flag(two, "dd") && vma_flag(two, "dc") && vma_flag(two, "sr"), "three at once");
	for (size_t i = 0; i < 64; i++)
		if (i >= 32 || vma_nonzero(freed + i * PG, PG) >= 0)
			t_check(vma_word(71, i * PG / 8) == *(uint64_t *)(freed + i * PG),
				"page %zu of freed memory is old or zero", i);
	t_check(vma_nonzero(dropped + 2 * PG, 3 * PG) < 0 && vma_differs(dropped, 2 * PG, 72) < 0, "dropped pages are zero");

	pid_t pid = fork();
	if (pid == 0) {
		if (vma_readable(m[0]))
			_exit(1);
		if (vma_nonzero(m[1], 8 * PG) >= 0)
			_exit(2);
		if (vma_readable(two))
			_exit(3);
		_exit(vma_differs(m[3], 4 * PG, 3) >= 0 ? 4 : 0);
	}
	int st;
	waitpid(pid, &st, 0);
	t_check(st == 0, "a child inherits as advised: %d", WEXITSTATUS(st));
	return t_done();
}
