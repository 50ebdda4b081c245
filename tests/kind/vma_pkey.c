/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice needs=cpu:pku */
/* Protection keys: the key of a mapping, which keys are taken, and the rights in PKRU. */
#include "../lib/t.h"
#include "vma.h"

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *m = vma_map_apart(4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int key = pkey_alloc(0, PKEY_DISABLE_WRITE), key2 = pkey_alloc(0, 0);

	if (key < 0 || key2 < 0)
		t_skip("protection keys (pku): %s", strerror(errno));
	vma_fill(m, 4 * PG, 1);
	VMA_NEED(pkey_mprotect(m, 2 * PG, PROT_READ | PROT_WRITE, key) == 0);
	VMA_NEED(pkey_free(key2) == 0);

	t_ready();

	char value[64] = "";
	vma_smaps(m, "ProtectionKey", value, sizeof(value));
	t_check(atoi(value) == key, "key %s, was %d", value, key);
	t_check(pkey_get(key) == PKEY_DISABLE_WRITE, "rights of the key");
	t_check(vma_differs(m, 4 * PG, 1) < 0, "content");
	t_check(pkey_alloc(0, 0) == key2, "the free key is the next one");
	t_check(pkey_free(key) == 0, "the key was taken");
	return t_done();
}
