// SPDX-License-Identifier: GPL-2.0-only
/* The order in which the module comes up, and its reverse. */
#include <linux/module.h>

#include "ckpt.h"
#include "compat/compat.h"

static int __init ckpt_init(void)
{
	int err;

	err = ckpt_symbols_init();
	if (err)
		return err;
	err = ckpt_log_cache_init();
	if (err)
		return err;
	err = ckpt_sysfs_init();
	if (err)
		goto err_log_cache;
	err = ckpt_sessions_init();
	if (err)
		goto err_sysfs;
	err = ckpt_hook_init();
	if (err)
		goto err_sessions;
	err = ckpt_fork_init();
	if (err)
		goto err_hook;
	err = ckpt_ctl_init();
	if (err)
		goto err_fork;
	return 0;

err_fork:
	ckpt_fork_exit();
err_hook:
	ckpt_hook_exit();
err_sessions:
	ckpt_sessions_exit();
err_sysfs:
	ckpt_sysfs_exit();
err_log_cache:
	ckpt_log_cache_exit();
	return err;
}

static void __exit ckpt_exit(void)
{
	ckpt_ctl_exit();
	ckpt_fork_exit();
	ckpt_hook_exit();
	ckpt_sessions_exit();
	ckpt_sysfs_exit();
	ckpt_log_cache_exit();
}

module_init(ckpt_init);
module_exit(ckpt_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Dirty-page tracking for checkpoint, restore and migration");
