/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* The vDSO is where it was, still named, and its functions agree with the system calls. */
#include "../lib/t.h"
#include "vma.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>

static void *vdso_symbol(const char *name)
{
	const unsigned char *base = (void *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *eh = (const void *)base;
	const Elf64_Phdr *ph;
	const Elf64_Dyn *dyn = NULL;
	const Elf64_Sym *sym = NULL;
	const char *str = NULL;
	const uint32_t *hash = NULL;
	unsigned long bias = 0;

	VMA_NEED(base);
	ph = (const void *)(base + eh->e_phoff);
	for (int i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD)
			bias = (unsigned long)base + ph[i].p_offset - ph[i].p_vaddr;
		if (ph[i].p_type == PT_DYNAMIC)
			dyn = (const void *)(base + ph[i].p_offset);
	}
	for (; dyn && dyn->d_tag; dyn++) {
		if (dyn->d_tag == DT_STRTAB)
			str = (const void *)(bias + dyn->d_un.d_ptr);
		if (dyn->d_tag == DT_SYMTAB)
			sym = (const void *)(bias + dyn->d_un.d_ptr);
		if (dyn->d_tag == DT_HASH)
			hash = (const void *)(bias + dyn->d_un.d_ptr);
	}
	/* newer ones have only a GNU hash: walk until the names end */
	for (uint32_t i = 1; str && sym && i < (hash ? hash[1] : 16); i++)
		if (!strcmp(str + sym[i].st_name, name))
			return (void *)(bias + sym[i].st_value);
	return NULL;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int (*vgettime)(clockid_t, struct timespec *);
	int (*vtimeofday)(struct timeval *, void *);
	long (*vgetcpu)(unsigned *, unsigned *, void *);
	void *s[3] = { vdso_symbol("__vdso_clock_gettime"), vdso_symbol("__vdso_gettimeofday"),
		       vdso_symbol("__vdso_getcpu") };
	char before[300], line[300];
	struct timespec last, v, k;
	unsigned cpu = 9999;
	struct timeval tv;

	VMA_NEED(s[0] && s[1] && s[2]);
	memcpy(&vgettime, &s[0], sizeof(void *));
	memcpy(&vtimeofday, &s[1], sizeof(void *));
	memcpy(&vgetcpu, &s[2], sizeof(void *));
	VMA_NEED(vgettime(CLOCK_MONOTONIC, &last) == 0);
	vma_line((void *)getauxval(AT_SYSINFO_EHDR), before, sizeof(before));

	t_ready();

	vma_line((void *)getauxval(AT_SYSINFO_EHDR), line, sizeof(line));
	t_check(!strncmp(line, before, 30) && strstr(line, "[vdso]"), "\"%s\", was \"%s\"", line, before);
	for (int i = 0; i < 1000; i++) {
		t_check(vgettime(CLOCK_MONOTONIC, &v) == 0, "vDSO clock");
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &k);
		long d = (k.tv_sec - v.tv_sec) * 1000000000L + k.tv_nsec - v.tv_nsec;
		t_check(d >= 0 && d < 1000000000L, "vDSO and system call are %ld ns apart", d);
		t_check(v.tv_sec > last.tv_sec || (v.tv_sec == last.tv_sec && v.tv_nsec >= last.tv_nsec), "time goes on");
		last = v;
	}
	t_check(vgettime(CLOCK_REALTIME, &v) == 0 && vtimeofday(&tv, NULL) == 0 && tv.tv_sec - v.tv_sec <= 1,
		"wall clock");
	t_check(vgetcpu(&cpu, NULL, NULL) == 0 && cpu < 9999, "getcpu says %u", cpu);
	t_check(time(NULL) - tv.tv_sec <= 1, "libc's time");
	return t_done();
}
