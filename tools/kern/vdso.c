// SPDX-License-Identifier: GPL-2.0-only
#include "kern/vdso.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"
#include "base/vec.h"

struct sym {
	const char *name;
	uint64_t at;
};
struct syms {
	struct sym *v;
	size_t n, cap;
};

const unsigned char *vdso_own(size_t *ret_len)
{
	static size_t known; /* it does not change */
	const unsigned char *base = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
	auto_free char *maps = NULL;
	unsigned long start, end;

	*ret_len = known;
	if (known)
		return base;
	if (!base || io_read_file(AT_FDCWD, "/proc/self/maps", &maps) < 0)
		return NULL;
	for (const char *l = maps; *l; l += strcspn(l, "\n"), l += *l ? 1 : 0)
		if (text_scan(l, "%lx-%lx", &start, &end) == 2 && start == (unsigned long)base &&
		    end - start <= VDSO_MAX_BYTES)
			*ret_len = known = end - start;
	return known ? base : NULL;
}

/* [off, off + n) lies inside @len bytes. */
static bool inside(uint64_t off, uint64_t n, size_t len)
{
	return off <= len && n <= len - off;
}

static int symbols(const unsigned char *img, size_t len, struct syms *ret)
{
	const Elf64_Ehdr *eh = (const void *)img;
	const Elf64_Shdr *sh;

	if (len < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
	    eh->e_shentsize != sizeof(*sh) || eh->e_shoff % 8 ||
	    !inside(eh->e_shoff, (uint64_t)eh->e_shnum * sizeof(*sh), len))
		return -ENOEXEC;
	sh = (const void *)(img + eh->e_shoff);
	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		const Elf64_Shdr *str;
		const Elf64_Sym *sym;

		if (sh[i].sh_type != SHT_DYNSYM || sh[i].sh_link >= eh->e_shnum)
			continue;
		str = &sh[sh[i].sh_link];
		if (sh[i].sh_offset % 8 || !inside(sh[i].sh_offset, sh[i].sh_size, len) ||
		    !str->sh_size || !inside(str->sh_offset, str->sh_size, len) ||
		    img[str->sh_offset + str->sh_size - 1])
			return -ENOEXEC;
		sym = (const void *)(img + sh[i].sh_offset);
		for (uint64_t k = 0; k < sh[i].sh_size / sizeof(*sym); k++) {
			struct sym *s;

			if (ELF64_ST_TYPE(sym[k].st_info) != STT_FUNC || !sym[k].st_shndx)
				continue;
			if (sym[k].st_name >= str->sh_size || sym[k].st_value >= len)
				return -ENOEXEC;
			s = vec_push(ret);
			if (!s)
				return -ENOMEM;
			s->name = (const char *)img + str->sh_offset + sym[k].st_name;
			s->at = sym[k].st_value;
		}
		return ret->n ? 0 : -ENOEXEC;
	}
	return -ENOEXEC;
}

static const struct sym *find(const struct syms *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].name, name))
			return &l->v[i];
	return NULL;
}

static int sym_cmp(const void *a, const void *b)
{
	const struct sym *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

int vdso_redirect(unsigned char *old, size_t len, const unsigned char *now, size_t now_len,
		  uint64_t base, struct ckpt_err *err)
{
	static const unsigned char enosys[] = { 0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, /* mov */
						0xc3 };                                   /* ret */
	struct syms from = { 0 }, to = { 0 };
	auto_free unsigned char *plain = malloc(len ? len : 1);
	int rc = plain ? 0 : -ENOMEM;

	if (!rc)
		memcpy(plain, old, len); /* names stay readable while code is overwritten */
	if (!rc)
		rc = symbols(plain, len, &from);
	if (!rc)
		rc = symbols(now, now_len, &to);
	if (!rc)
		qsort(from.v, from.n, sizeof(*from.v), sym_cmp);
	for (size_t i = 0; !rc && i < from.n; i++) {
		unsigned char jump[12] = { 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0 };
		const struct sym *there = find(&to, from.v[i].name);
		uint64_t at = from.v[i].at, target = there ? base + there->at : 0;

		memcpy(jump + 2, &target, sizeof(target)); /* mov rax, target; jmp rax */
		if (!inside(at, sizeof(jump), len) ||
		    (i && at != from.v[i - 1].at && at - from.v[i - 1].at < sizeof(jump)))
			rc = -ENOEXEC;
		else if (there)
			memcpy(old + at, jump, sizeof(jump));
		else
			memcpy(old + at, enosys, sizeof(enosys));
	}
	vec_free(&from);
	vec_free(&to);
	if (rc)
		return ckpt_fail_errno(
			err, E_KERNEL, rc,
			"calls of the image's vDSO cannot be sent on to this kernel's");
	return 0;
}
