// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: the states of all kinds, as far as a restore looks at them before a process exists. The
 * input is that of records.c. What the reader accepts is opened and planned as a restore would, in a
 * name space of its own, as nobody, and with all files read-only but those of the fuzzer.
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "fuzz.h"

#include "restore/restore.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

static void set_rdonly(const char *path, bool rdonly)
{
	struct mount_attr a = { .attr_set = rdonly ? MOUNT_ATTR_RDONLY : 0,
				.attr_clr = rdonly ? 0 : MOUNT_ATTR_RDONLY };

	if (syscall(SYS_mount_setattr, AT_FDCWD, path, rdonly ? AT_RECURSIVE : 0, &a, sizeof(a)))
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *dir = work_dir();
	struct rlimit files = { 4096, 4096 };

	(void)argc;
	(void)argv;
	if (geteuid())
		return 0;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(dir, dir, NULL, MS_BIND, NULL) ||
	    chmod(dir, 0777))
		abort();
	set_rdonly("/", true);
	set_rdonly(dir, false);
	if (setrlimit(RLIMIT_NOFILE, &files) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534) || prctl(PR_SET_DUMPABLE, 1))
		abort();
	return 0;
}

static void quiet(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *buf = calloc(1, RECORDS_ROOM(size)), inventory[4096];
	struct ckpt_restore_opts opts = { .dir = work_dir(), .plan_only = true, .detach = true };
	struct ckpt_ui ui = { 0 };
	struct ckpt_err err = { 0 };
	struct restore_ctx r;
	size_t len;
	int rc;

	len = put_records(buf, (struct input) { data, size });
	put_file(opts.dir, CKPT_FILE_PAGES, "", 0);
	put_file(opts.dir, CKPT_FILE_RECORDS, buf, len);
	put_file(opts.dir, CKPT_FILE_INVENTORY, inventory, put_inventory(inventory, buf, len, 0));
	free(buf);
	rc = restore_begin(&r, &opts, &ui, &err);
	if (!rc)
		rc = image_read(r.img, opts.dir, &err);
	if (!rc)
		rc = restore_plan_image(&r, &err);
	if (!rc)
		restore_plan_print(&r, quiet, NULL);
	restore_end(&r);
	return 0;
}
