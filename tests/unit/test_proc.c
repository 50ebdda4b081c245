// SPDX-License-Identifier: GPL-2.0-only
/* What a program or an administrator chose as a name is not taken for what the kernel says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/vec.h"
#include "kern/mounts.h"
#include "kern/procfs.h"

static void the_kernels_own_mappings_are_found(void **state)
{
	static const char maps[] =
		"00400000-00401000 r-xp 00000000 fe:00 12                         /tmp/x [vdso]\n"
		"00401000-00402000 r-xp 00000000 fe:00 13                         /tmp/[vdso]\n"
		"00402000-00403000 rw-p 00000000 00:00 0 \n"
		"00403000-00404000 rw-p 00000000 00:00 0                          [anon:a b]\n"
		"7ffd4b5f5000-7ffd4b5f9000 r--p 00000000 00:00 0                  [vvar]\n"
		"7ffd4b5f9000-7ffd4b5fb000 r-xp 00000000 00:00 0                  [vdso]\n"
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0          [vsyscall]\n";
	uint64_t start = 0, end = 0;
	size_t len;

	(void)state;
	assert_true(proc_map_find(maps, "[vdso]", &start, &end));
	assert_int_equal(start, 0x7ffd4b5f9000);
	assert_int_equal(end, 0x7ffd4b5fb000);
	assert_true(proc_map_find(maps, "[vsyscall]", &start, &end));
	assert_int_equal(start, 0xffffffffff600000);
	assert_false(proc_map_find(maps, "[vds", &start, &end));
	assert_false(proc_map_find("", "[vdso]", &start, &end));
	assert_false(proc_map_find("[vdso]\n", "[vdso]", &start, &end));
	(void)proc_map_name(maps, &len);
	assert_int_equal(len, 0);
	/* A line without a name does not take that of the next. */
	assert_string_equal(proc_map_name("00402000-00403000 rw-p 00000000 00:00 0 \n[vdso]\n", &len), "");
}

static void mounts_are_taken_apart(void **state)
{
	char text[] = "36 35 98:7 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
		      "no mount\n"
		      "37 35 0:22 /a\\040-\\040b /mnt/My\\040Disk\\012\\134 ro - tmpfs  rw\n"
		      "38 35 0:4 net:[4026532189] /run/netns/blue rw - nsfs nsfs rw\n"
		      "39 35 0:5 / /cut rw - ext4 /dev/sda\n"
		      "\n";
	char *at = text;
	struct mount m = { 0 };

	(void)state;
	assert_true(mount_next(&at, &m));
	assert_int_equal(m.id, 36);
	assert_int_equal(m.dev, makedev(98, 7));
	assert_string_equal(m.root, "/mnt1");
	assert_string_equal(m.at, "/mnt2");
	assert_string_equal(m.how, "rw,noatime");
	assert_string_equal(m.type, "ext3");
	assert_string_equal(m.source, "/dev/root");
	assert_string_equal(m.super, "rw,errors=continue");
	assert_true(mount_next(&at, &m));
	assert_string_equal(m.root, "/a - b");
	assert_string_equal(m.at, "/mnt/My Disk\n\\");
	assert_string_equal(m.source, "");
	assert_string_equal(m.super, "rw");
	assert_true(mount_next(&at, &m));
	assert_string_equal(m.root, "net:[4026532189]");
	assert_string_equal(m.type, "nsfs");
	assert_false(mount_next(&at, &m));
	assert_string_equal(m.type, "nsfs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernels_own_mappings_are_found),
		cmocka_unit_test(mounts_are_taken_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
