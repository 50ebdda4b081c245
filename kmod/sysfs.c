// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: /sys/kernel/ckpt. One value per file, the unit in its name; a value that
 * is not understood is EINVAL and changes nothing. docs/abi/sysfs-kernel-ckpt
 * describes each file.
 *
 *	/sys/kernel/ckpt/
 *	├── version  features
 *	├── granule_bytes  granule_mode  thp_mode  log_limit_bytes  cow_pool_pages
 *	└── sessions/ID/
 *	    ├── owner_port  flags
 *	    ├── faults  widened_pages  widened_clean_pages  overflows  chunks  pages
 *	    ├── cow_pages  cow_lost_pages  cow_pool_free_pages
 *	    └── arms  arm_ns  collects  collect_ns
 */
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "ckpt.h"

struct ckpt_settings ckpt_settings = {
	.granule_pages = 1,
	.granule_mode = CKPT_GRANULE_FIXED,
	.thp_mode = CKPT_THP_SPLIT,
	.log_limit_bytes = 64UL << 20,
	.cow_pool_pages = 8192,
};

static struct kobject *root, *sessions_dir;

static ssize_t version_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", CKPT_ABI_VERSION);
}

static ssize_t features_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%#llx\n", ckpt_features());
}

static ssize_t granule_bytes_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(ckpt_settings.granule_pages) * PAGE_SIZE);
}

static ssize_t granule_bytes_store(struct kobject *kobj, struct kobj_attribute *attr,
				   const char *buf, size_t len)
{
	unsigned long bytes;

	if (kstrtoul(buf, 0, &bytes) || bytes < PAGE_SIZE || bytes > CKPT_CHUNK_BYTES ||
	    !is_power_of_2(bytes))
		return -EINVAL;
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && bytes > PAGE_SIZE)
		return -EOPNOTSUPP;
	WRITE_ONCE(ckpt_settings.granule_pages, bytes / PAGE_SIZE);
	return len;
}

static const char *const granule_modes[] = {
	[CKPT_GRANULE_FIXED] = "fixed",
	[CKPT_GRANULE_ADAPTIVE] = "adaptive",
};

static ssize_t granule_mode_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", granule_modes[READ_ONCE(ckpt_settings.granule_mode)]);
}

static ssize_t granule_mode_store(struct kobject *kobj, struct kobj_attribute *attr,
				  const char *buf, size_t len)
{
	int mode = sysfs_match_string(granule_modes, buf);

	if (mode < 0)
		return mode;
	WRITE_ONCE(ckpt_settings.granule_mode, mode);
	return len;
}

static const char *const thp_modes[] = {
	[CKPT_THP_SPLIT] = "split",
	[CKPT_THP_WHOLE] = "whole",
	[CKPT_THP_DISABLE] = "disable",
};

static ssize_t thp_mode_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", thp_modes[READ_ONCE(ckpt_settings.thp_mode)]);
}

static ssize_t thp_mode_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			      size_t len)
{
	int mode = sysfs_match_string(thp_modes, buf);

	if (mode < 0)
		return mode;
	WRITE_ONCE(ckpt_settings.thp_mode, mode);
	return len;
}

static ssize_t log_limit_bytes_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(ckpt_settings.log_limit_bytes));
}

static ssize_t log_limit_bytes_store(struct kobject *kobj, struct kobj_attribute *attr,
				     const char *buf, size_t len)
{
	unsigned long bytes;

	if (kstrtoul(buf, 0, &bytes) || bytes < PAGE_SIZE || bytes > LONG_MAX)
		return -EINVAL;
	WRITE_ONCE(ckpt_settings.log_limit_bytes, bytes);
	return len;
}

static ssize_t cow_pool_pages_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(ckpt_settings.cow_pool_pages));
}

static ssize_t cow_pool_pages_store(struct kobject *kobj, struct kobj_attribute *attr,
				    const char *buf, size_t len)
{
	unsigned long pages;

	if (kstrtoul(buf, 0, &pages) || pages > totalram_pages() / 2)
		return -EINVAL;
	WRITE_ONCE(ckpt_settings.cow_pool_pages, pages);
	return len;
}

static struct kobj_attribute version_attr = __ATTR_RO(version);
static struct kobj_attribute features_attr = __ATTR_RO(features);
static struct kobj_attribute granule_bytes_attr = __ATTR_RW(granule_bytes);
static struct kobj_attribute granule_mode_attr = __ATTR_RW(granule_mode);
static struct kobj_attribute thp_mode_attr = __ATTR_RW(thp_mode);
static struct kobj_attribute log_limit_bytes_attr = __ATTR_RW(log_limit_bytes);
static struct kobj_attribute cow_pool_pages_attr = __ATTR_RW(cow_pool_pages);

static const struct attribute *root_attrs[] = {
	&version_attr.attr,   &features_attr.attr, &granule_bytes_attr.attr,
	&granule_mode_attr.attr, &thp_mode_attr.attr, &log_limit_bytes_attr.attr,
	&cow_pool_pages_attr.attr, NULL,
};

/* ---- sessions/ID ------------------------------------------------------------ */

static struct ckpt_session *to_session(struct kobject *kobj)
{
	return container_of(kobj, struct ckpt_session, kobj);
}

static ssize_t owner_port_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", to_session(kobj)->owner);
}

static ssize_t cow_pool_free_pages_show(struct kobject *kobj, struct kobj_attribute *attr,
					char *buf)
{
	return sysfs_emit(buf, "%lu\n", ckpt_pool_free_pages(to_session(kobj)->pool));
}

static ssize_t flags_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%#x\n", to_session(kobj)->flags);
}

struct counter_attribute {
	struct kobj_attribute attr;
	size_t offset;	/* of the atomic64_t in struct ckpt_counters */
};

static ssize_t counter_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct counter_attribute *c = container_of(attr, struct counter_attribute, attr);
	atomic64_t *value = (void *)&to_session(kobj)->count + c->offset;

	return sysfs_emit(buf, "%lld\n", atomic64_read(value));
}

#define COUNTER(file, field)							\
	static struct counter_attribute file##_attr = {				\
		.attr = __ATTR(file, 0444, counter_show, NULL),			\
		.offset = offsetof(struct ckpt_counters, field),		\
	}

COUNTER(faults, faults);
COUNTER(widened_pages, widened);
COUNTER(widened_clean_pages, widened_clean);
COUNTER(overflows, overflows);
COUNTER(chunks, chunks);
COUNTER(pages, pages);
COUNTER(arms, arms);
COUNTER(arm_ns, arm_ns);
COUNTER(collects, collects);
COUNTER(collect_ns, collect_ns);
COUNTER(cow_pages, cow_pages);
COUNTER(cow_lost_pages, cow_lost);

static struct kobj_attribute owner_port_attr = __ATTR_RO(owner_port);
static struct kobj_attribute flags_attr = __ATTR_RO(flags);
static struct kobj_attribute cow_pool_free_pages_attr = __ATTR_RO(cow_pool_free_pages);

static struct attribute *session_attrs[] = {
	&owner_port_attr.attr,
	&flags_attr.attr,
	&faults_attr.attr.attr,
	&widened_pages_attr.attr.attr,
	&widened_clean_pages_attr.attr.attr,
	&overflows_attr.attr.attr,
	&chunks_attr.attr.attr,
	&pages_attr.attr.attr,
	&arms_attr.attr.attr,
	&arm_ns_attr.attr.attr,
	&collects_attr.attr.attr,
	&collect_ns_attr.attr.attr,
	&cow_pages_attr.attr.attr,
	&cow_lost_pages_attr.attr.attr,
	&cow_pool_free_pages_attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(session);

static void session_release(struct kobject *kobj)
{
	ckpt_pool_put(to_session(kobj)->pool);
	kfree(to_session(kobj));
}

static const struct kobj_type session_ktype = {
	.release = session_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = session_groups,
};

/* From here on ckpt_session_put() frees @s, also when this fails. */
int ckpt_sysfs_add_session(struct ckpt_session *s)
{
	return kobject_init_and_add(&s->kobj, &session_ktype, sessions_dir, "%u", s->id);
}

void ckpt_sysfs_remove_session(struct ckpt_session *s)
{
	kobject_del(&s->kobj);
}

int ckpt_sysfs_init(void)
{
	int err = -ENOMEM;

	root = kobject_create_and_add("ckpt", kernel_kobj);
	if (!root)
		return -ENOMEM;
	err = sysfs_create_files(root, root_attrs);
	if (err)
		goto err_put_root;
	err = -ENOMEM;
	sessions_dir = kobject_create_and_add("sessions", root);
	if (!sessions_dir)
		goto err_put_root;
	return 0;

err_put_root:
	kobject_put(root);
	return err;
}

void ckpt_sysfs_exit(void)
{
	kobject_put(sessions_dir);
	kobject_put(root);
}
