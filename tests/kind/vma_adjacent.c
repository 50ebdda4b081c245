/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/*
 * Neighbours without a gap that must neither merge nor change order: two shared objects, private beside
 * shared, one file at offsets that do not follow each other, and names given by prctl.
 */
#include "../lib/t.h"
#include "vma.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define SLOTS 14UL

static unsigned count_lines(unsigned char *p, char (*ret_line)[160])
{
	FILE *f = fopen("/proc/self/maps", "re");
	char buf[600];
	unsigned n = 0;
	unsigned long lo, hi;

	VMA_NEED(f);
	while (fgets(buf, sizeof(buf), f))
		if (sscanf(buf, "%lx-%lx", &lo, &hi) == 2 && lo >= (unsigned long)p &&
		    hi <= (unsigned long)p + SLOTS * 4 * PG && n < SLOTS * 2) {
			buf[strcspn(buf, "\n")] = 0;
			snprintf(ret_line[n++], 160, "%.159s", buf);
		}
	fclose(f);
	return n;
}

/* Inode numbers of memory objects are new after a restore; all else of a line must stay. */
static bool same_line(const char *a, const char *b)
{
	unsigned long lo[2], hi[2], off[2];
	char perm[2][8];
	int at[2] = { 0, 0 };

	if (sscanf(a, "%lx-%lx %7s %lx %*s %*u %n", &lo[0], &hi[0], perm[0], &off[0], &at[0]) < 4 ||
	    sscanf(b, "%lx-%lx %7s %lx %*s %*u %n", &lo[1], &hi[1], perm[1], &off[1], &at[1]) < 4)
		return false;
	return lo[0] == lo[1] && hi[0] == hi[1] && !strcmp(perm[0], perm[1]) && off[0] == off[1] &&
	       !strcmp(a + at[0], b + at[1]);
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p = vma_map_apart(SLOTS * 4 * PG, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	int fd = vma_file(t_path("adjacent.dat"), 64 * PG, 11), mfd = memfd_create("adj", MFD_CLOEXEC);
	static char before[SLOTS * 2][160], after[SLOTS * 2][160];
	const int rw = PROT_READ | PROT_WRITE, anon = MAP_ANONYMOUS | MAP_FIXED, fixed = MAP_FIXED;

	VMA_NEED(mfd >= 0 && ftruncate(mfd, 16 * PG) == 0);
#define SLOT(i) (p + (i) * 4 * PG)
#define MAP(i, prot, flags, fd, pgoff) \
	VMA_NEED(mmap(SLOT(i), 4 * PG, prot, flags, fd, (off_t)((pgoff) * PG)) != MAP_FAILED)
	MAP(0, rw, MAP_SHARED | anon, -1, 0);
	MAP(1, rw, MAP_SHARED | anon, -1, 0);
	MAP(2, rw, MAP_PRIVATE | anon, -1, 0);
	MAP(3, rw, MAP_PRIVATE | fixed, fd, 4);
	MAP(4, rw, MAP_PRIVATE | fixed, fd, 9);
	MAP(5, rw, MAP_PRIVATE | fixed, fd, 0);
	MAP(6, rw, MAP_SHARED | fixed, fd, 4);
	MAP(7, rw, MAP_SHARED | fixed, mfd, 4);
	MAP(8, rw, MAP_PRIVATE | fixed, mfd, 8);
	MAP(9, rw, MAP_PRIVATE | anon, -1, 0);
	MAP(10, rw, MAP_PRIVATE | anon, -1, 0);
	MAP(11, rw, MAP_PRIVATE | anon, -1, 0);
	MAP(12, rw, MAP_PRIVATE | anon | MAP_NORESERVE, -1, 0);
	MAP(13, PROT_READ, MAP_PRIVATE | anon, -1, 0);
	(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, SLOT(9), 4 * PG, "first name");
	(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, SLOT(10), 4 * PG, "second");
	(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, SLOT(0), 4 * PG, "shared name");
	for (unsigned long i = 0; i < SLOTS - 1; i++)
		if (i < 3 || i > 5)
			vma_fill(SLOT(i) + PG, PG, i);
	unsigned n = count_lines(p, before), m;

	t_ready();

	m = count_lines(p, after);
	t_check(n == m, "%u mappings, were %u", m, n);
	for (unsigned i = 0; i < n && i < m; i++)
		t_check(same_line(before[i], after[i]), "\"%s\", was \"%s\"", after[i], before[i]);
	for (unsigned long i = 0; i < SLOTS - 1; i++)
		if (i < 3 || i > 5)
			t_check(vma_differs(SLOT(i) + PG, PG, i) < 0, "content of slot %lu", i);
	return t_done();
}
