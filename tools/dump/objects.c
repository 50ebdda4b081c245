// SPDX-License-Identifier: GPL-2.0-only
/*
 * The object graph. Descriptors of one file (device, inode) share a bucket;
 * within it they are ordered by kcmp, so finding the open file description of a
 * descriptor costs O(log n) however many there are.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kind/fd/lock.h"
#include "kind/fd/sockopt.h"

#define BUCKETS 4096u
/* At once; they are open in ckpt until then: of the numbers that it may use, such a part. */
#define TOGETHER_MAX 256u
#define TOGETHER_SHARE 8u

struct fd_bucket {
	uint32_t *v; /* object ids, ascending by kcmp */
	size_t n, cap;
};

struct fd_index {
	struct fd_bucket bucket[BUCKETS];
};

static uint32_t hash(uint64_t a, uint64_t b)
{
	uint64_t h = (a * 0x9e3779b97f4a7c15ull) ^ b;

	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9ull;
	return (uint32_t)(h >> 32);
}

static struct fd_bucket *bucket_of(struct dump_ctx *d, const struct stat *st)
{
	return &d->index->bucket[hash(st->st_dev, st->st_ino) % BUCKETS];
}

/* Where (pid, fd) is or belongs in its bucket. Returns true when found. */
static bool bucket_search(struct dump_ctx *d, const struct fd_bucket *b, int pid, int fd,
			  size_t *ret_at)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct dump_object *o = &d->objects.v[b->v[mid] - 1];
		long c = syscall(SYS_kcmp, pid, o->pid, KCMP_FILE, fd, o->fd);

		if (c == 0) {
			*ret_at = mid;
			return true;
		}
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	*ret_at = lo;
	return false;
}

static int bucket_insert(struct fd_bucket *b, size_t at, uint32_t id)
{
	uint32_t *slot = vec_push(b);

	if (!slot)
		return -ENOMEM;
	memmove(b->v + at + 1, b->v + at, (b->n - 1 - at) * sizeof(*b->v));
	b->v[at] = id;
	return 0;
}

/* Objects that no descriptor identifies, by a text that does: "mapped 0 8:1 4711 /bin/sh". */
struct object_name {
	char *name;
	uint32_t id;
};

static int name_cmp(const void *a, const void *b)
{
	return strcmp(((const struct object_name *)a)->name, ((const struct object_name *)b)->name);
}

static void name_free(void *p)
{
	free(((struct object_name *)p)->name);
	free(p);
}

static uint32_t name_find(struct dump_ctx *d, const char *name)
{
	struct object_name key = { .name = (char *)name };
	struct object_name *const *n = tfind(&key, &d->names, name_cmp);

	return n ? (*n)->id : 0;
}

static int name_add(struct dump_ctx *d, const char *name, uint32_t id, struct ckpt_err *err)
{
	struct object_name *n = calloc(1, sizeof(*n));

	if (!n || !(n->name = strdup(name)) || !tsearch(n, &d->names, name_cmp)) {
		if (n)
			name_free(n);
		return ckpt_oom(err);
	}
	n->id = id;
	return 0;
}

static int object_new(struct dump_ctx *d, struct dump_object **ret, struct ckpt_err *err)
{
	struct dump_object *o = vec_push(&d->objects);

	if (!o)
		return ckpt_oom(err);
	o->local = -1;
	o->msg = kind_msg_new(&ckpt__object__descriptor);
	if (!o->msg)
		return ckpt_oom(err);
	o->msg->id = (uint32_t)d->objects.n;
	*ret = o;
	return 0;
}

int dump_object_set(Ckpt__Object *obj, const char *kind, const ProtobufCMessage *msg,
		    struct ckpt_err *err)
{
	Ckpt__State *st = kind_state_new(kind, msg);

	if (!st)
		return ckpt_oom(err);
	if (obj->state)
		protobuf_c_message_free_unpacked(&obj->state->base, NULL);
	obj->state = st;
	return 0;
}

/* F_SETOWN and F_SETSIG of the description; owners outside the tree are dropped by name. */
static void object_owner(struct dump_ctx *d, struct dump_object *o, const struct file_view *view)
{
	struct f_owner_ex own = { 0 };
	int sig;

	if (o->local < 0 || (o->msg->flags & O_PATH) || (view && !view->owner && !view->signal))
		return;
	if (!fcntl(o->local, F_GETOWN_EX, &own) && own.pid) {
		o->msg->owner_type = own.type;
		o->msg->owner_pid = d->target.nested_pids ? dump_vpid(d, own.pid) : own.pid;
	}
	sig = fcntl(o->local, F_GETSIG);
	if (sig > 0)
		o->msg->owner_sig = sig;
}

/* All is known of it. */
static int object_seal(struct dump_object *o, struct ckpt_err *err)
{
	int rc = dump_object_set(o->msg, o->kind->name, o->kmsg, err);

	protobuf_c_message_free_unpacked(o->kmsg, NULL);
	o->kmsg = NULL;
	if (o->local >= 0)
		(void)close(o->local);
	o->local = -1;
	return rc;
}

/* Those that wait to be done at once. */
static int together_done(struct dump_ctx *d, struct ckpt_err *err)
{
	struct fd_dumped v[TOGETHER_MAX];
	const struct fd_kind *kind;
	size_t n = d->together.n, at = 0;
	int rc;

	if (!n)
		return 0;
	for (size_t i = 0; i < n; i++) {
		const struct dump_object *o = &d->objects.v[d->together.v[i] - 1];

		v[i] = (struct fd_dumped) { .local = o->local, .msg = o->kmsg };
	}
	kind = d->objects.v[d->together.v[0] - 1].kind;
	rc = kind->dump_together(v, n, &at, err);
	if (rc)
		return ckpt_ctx(err, "fd %d (%s)", d->objects.v[d->together.v[at] - 1].fd,
				kind->name);
	for (size_t i = 0; !rc && i < n; i++)
		rc = object_seal(&d->objects.v[d->together.v[i] - 1], err);
	d->together.n = 0;
	return rc;
}

static size_t together_most(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) || rl.rlim_cur >= (rlim_t)TOGETHER_MAX * TOGETHER_SHARE)
		return TOGETHER_MAX;
	return rl.rlim_cur < TOGETHER_SHARE ? 1 : (size_t)rl.rlim_cur / TOGETHER_SHARE;
}

static int together_add(struct dump_ctx *d, uint32_t id, struct ckpt_err *err)
{
	uint32_t *slot;
	int rc = 0;

	if (!d->together.most)
		d->together.most = together_most();
	if (d->together.n >= d->together.most ||
	    (d->together.n && d->objects.v[d->together.v[0] - 1].kind != d->objects.v[id - 1].kind))
		rc = together_done(d, err);
	if (rc)
		return rc;
	slot = vec_push(&d->together);
	if (!slot)
		return ckpt_oom(err);
	*slot = id;
	return 0;
}

/* Dump the description behind @f as a new object. Nested calls (an epoll's watches, a memfd's
 * contents) may add objects and move the array: the index is what stays valid. */
static int object_dump(struct dump_ctx *d, const struct fd_kind *kind, const struct fd_facts *f,
		       char **link, char **fdinfo, uint32_t *ret_id, struct ckpt_err *err)
{
	struct dump_object *o;
	Ckpt__Object *msg;
	void *kmsg;
	size_t at;
	int rc = object_new(d, &o, err);

	if (rc)
		return rc;
	at = d->objects.n - 1;
	kmsg = kind_msg_new(kind->desc);
	if (!kmsg)
		return ckpt_oom(err);
	o->kind = kind;
	o->kmsg = kmsg;
	o->pid = f->pid;
	o->fd = f->fd;
	o->local = f->local;
	o->st = f->st;
	o->link = take_ptr(*link);
	o->fdinfo = take_ptr(*fdinfo);
	msg = o->msg;
	msg->flags = f->flags;
	msg->pos = f->pos;
	object_owner(d, o, f->view);
	rc = lock_check(f, err);
	if (!rc && kind->check)
		rc = kind->check(d, f, err);
	if (!rc)
		rc = lock_dump_object(f, msg, err);
	if (!rc)
		rc = kind->dump(d, f, msg, kmsg, err);
	if (rc)
		return ckpt_ctx(err, "fd %d (%s)", f->fd, kind->name);
	*ret_id = msg->id;
	if (kind->dump_late)
		return 0;
	return kind->dump_together ? together_add(d, msg->id, err)
				   : object_seal(&d->objects.v[at], err);
}

int dump_object_of(struct dump_ctx *d, const struct fd_facts *f, char **link, char **fdinfo,
		   uint32_t *ret_id, bool *ret_owns, struct ckpt_err *err)
{
	const struct fd_kind *kind;
	struct fd_bucket *b;
	size_t at;

	*ret_owns = false;
	if (!d->index && !(d->index = calloc(1, sizeof(*d->index))))
		return ckpt_oom(err);
	b = bucket_of(d, &f->st);
	if (bucket_search(d, b, f->pid, f->fd, &at)) {
		*ret_id = b->v[at];
		return 0;
	}
	kind = dump_fd_kind(d, f);
	if (!kind)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d (%s) cannot be saved",
				 f->fd, f->link);
	/* In the index before its kind runs, for objects that reach themselves. */
	if (bucket_insert(b, at, (uint32_t)d->objects.n + 1))
		return ckpt_oom(err);
	*ret_owns = true;
	return object_dump(d, kind, f, link, fdinfo, ret_id, err);
}

uint32_t dump_object_find(struct dump_ctx *d, int pid, int fd)
{
	struct fd_bucket *b;
	char path[64];
	struct stat st;
	size_t at;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	if (!d->index || stat(path, &st))
		return 0;
	b = bucket_of(d, &st);
	return bucket_search(d, b, pid, fd, &at) ? b->v[at] : 0;
}

bool dump_object_next(struct dump_ctx *d, dev_t dev, ino_t ino, uint32_t *id, int *ret_pid,
		      int *ret_fd)
{
	struct stat st = { .st_dev = dev, .st_ino = ino };
	const struct fd_bucket *b;
	bool after = !*id;

	if (!d->index)
		return false;
	b = bucket_of(d, &st);
	for (size_t i = 0; i < b->n; i++) {
		const struct dump_object *o = &d->objects.v[b->v[i] - 1];

		if (after && o->st.st_dev == dev && o->st.st_ino == ino) {
			*id = b->v[i];
			*ret_pid = o->pid;
			*ret_fd = o->fd;
			return true;
		}
		after = after || b->v[i] == *id;
	}
	return false;
}

uint32_t dump_object_socket(struct dump_ctx *d, dev_t dev, ino_t ino)
{
	uint32_t id = 0;
	int pid, fd;

	/* With O_PATH it can be open besides. */
	while (dump_object_next(d, dev, ino, &id, &pid, &fd))
		if (S_ISSOCK(d->objects.v[id - 1].st.st_mode) &&
		    !(dump_object_flags(d, id) & O_PATH))
			return id;
	return 0;
}

uint32_t dump_object_flags(const struct dump_ctx *d, uint32_t id)
{
	return d->objects.v[id - 1].msg->flags;
}

int dump_keep_fd(struct dump_ctx *d, int fd, struct ckpt_err *err)
{
	int *slot = vec_push(&d->kept);

	if (!slot) {
		(void)close(fd);
		return ckpt_oom(err);
	}
	*slot = fd;
	return 0;
}

int dump_object_keyed(struct dump_ctx *d, const char *kind, uint64_t key1, uint64_t key2,
		      Ckpt__Object **ret, bool *ret_new, struct ckpt_err *err)
{
	struct dump_object *o;
	char name[96];
	uint32_t id;
	int rc;

	(void)snprintf(name, sizeof(name), "%s %llx %llx", kind, (unsigned long long)key1,
		       (unsigned long long)key2);
	id = name_find(d, name);
	*ret_new = !id;
	if (id) {
		*ret = d->objects.v[id - 1].msg;
		return 0;
	}
	rc = object_new(d, &o, err);
	if (rc)
		return rc;
	*ret = o->msg;
	return name_add(d, name, o->msg->id, err);
}

/* The object of a file that no descriptor shows: @f has its flags, its st and (or -1) a descriptor
 * of ckpt's own, which is taken over. */
static int object_file(struct dump_ctx *d, const char *path, struct fd_facts *f, uint32_t *ret_id,
		       struct ckpt_err *err)
{
	auto_fd own = f->local;
	auto_free char *link = strdup(path);
	auto_free char *fdinfo = strdup("");
	auto_free char *name = NULL;
	const struct fd_kind *kind;
	int rc;

	if (!link || !fdinfo)
		return ckpt_oom(err);
	if (asprintf(&name, "file %x %llx %llx %s", f->flags, (unsigned long long)f->st.st_dev,
		     (unsigned long long)f->st.st_ino, path) < 0)
		return ckpt_oom(err);
	*ret_id = name_find(d, name);
	if (*ret_id)
		return 0;
	f->link = link;
	f->fdinfo = fdinfo;
	kind = fd_kind_match(f);
	if (!kind)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "the file %s cannot be saved",
				 path);
	(void)take_fd(&own);
	rc = object_dump(d, kind, f, &link, &fdinfo, ret_id, err);
	return rc ? rc : name_add(d, name, *ret_id, err);
}

/* The same of what was opened just now. */
static int object_opened(struct dump_ctx *d, int pid, const char *path, int local, int flags,
			 uint32_t *ret_id, struct ckpt_err *err)
{
	struct fd_facts f = { .pid = pid, .fd = -1, .local = local, .flags = (uint32_t)flags };

	if (fstat(local, &f.st)) {
		(void)ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "cannot stat %s", path);
		(void)close(local);
		return err->code;
	}
	return object_file(d, path, &f, ret_id, err);
}

/* Most mapped files are regular ones, still where the mapping says. */
static bool is_where_it_says(const struct proc_vma *v, struct stat *ret)
{
	return v->path[0] == '/' && !lstat(v->path, ret) && S_ISREG(ret->st_mode) &&
	       ret->st_dev == makedev(v->dev_major, v->dev_minor) && ret->st_ino == v->ino;
}

int dump_object_mapped(struct dump_ctx *d, int pid, const struct proc_vma *v, uint32_t *ret_id,
		       struct ckpt_err *err)
{
	/* A shared mapping that may become writable needs the file open for writing. */
	int flags = v->shared && (v->flags & PROC_VMF(mw)) ? O_RDWR : O_RDONLY;
	struct fd_facts f = {
		.pid = pid, .fd = -1, .local = -1, .flags = (uint32_t)flags, .named = true
	};
	auto_free char *name = NULL;
	auto_free char *link = NULL;
	int fd, rc;

	/* A file is mapped many times: its name in smaps spares looking each time. */
	if (asprintf(&name, "mapped %x %x:%x %llx %s", (unsigned int)flags, v->dev_major,
		     v->dev_minor, (unsigned long long)v->ino, v->path) < 0)
		return ckpt_oom(err);
	*ret_id = name_find(d, name);
	if (*ret_id)
		return 0;
	if (!d->opts->store_files && is_where_it_says(v, &f.st)) {
		rc = object_file(d, v->path, &f, ret_id, err);
		return rc ? rc : name_add(d, name, *ret_id, err);
	}
	/* Nobody who stands still gives up a lease. */
	fd = proc_map_open(pid, v->start, v->end, flags | O_NONBLOCK);
	if (fd < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, fd, "cannot open the mapped file %s",
				       v->path);
	rc = proc_map_link(pid, v, &link, err);
	if (rc)
		(void)close(fd);
	else
		rc = object_opened(d, pid, link, fd, flags, ret_id, err);
	return rc ? rc : name_add(d, name, *ret_id, err);
}

int dump_object_link(struct dump_ctx *d, int pid, const char *name, int flags, uint32_t *ret_id,
		     struct ckpt_err *err)
{
	auto_free char *link = NULL;
	char path[64];
	int fd, rc = proc_readlink(pid, name, &link, err);

	if (rc)
		return rc;
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "cannot open %s of task %d (%s)",
				       name, pid, link);
	return object_opened(d, pid, link, fd, flags, ret_id, err);
}

int dump_objects_late(struct dump_ctx *d, struct ckpt_err *err)
{
	int rc = together_done(d, err);

	for (size_t i = 0; !rc && i < d->objects.n; i++) {
		struct dump_object *o = &d->objects.v[i];
		struct fd_facts f;

		if (!o->kmsg || !o->kind->dump_late)
			continue;
		f = (struct fd_facts) { .pid = o->pid,
					.fd = o->fd,
					.local = o->local,
					.link = o->link,
					.fdinfo = o->fdinfo,
					.st = o->st,
					.flags = o->msg->flags,
					.pos = o->msg->pos };
		rc = o->kind->dump_late(d, &f, o->msg, o->kmsg, err);
		if (!rc)
			rc = dump_object_set(o->msg, o->kind->name, o->kmsg, err);
		if (rc)
			return ckpt_ctx(err, "fd %d (%s)", o->fd, o->kind->name);
	}
	/* It may have led to more of them. */
	if (!rc)
		rc = together_done(d, err);
	if (!rc && d->sockopts.asked)
		ui_note(d->ui, 2, "%zu connections with %zu sets of options", d->connections,
			sockopts_sets(d->sockopts.asked));
	return rc;
}

void dump_objects_free(struct dump_ctx *d)
{
	for (size_t i = 0; i < d->pages.n; i++)
		if (d->pages.v[i].object && d->pages.v[i].fd >= 0)
			(void)close(d->pages.v[i].fd);
	for (size_t i = 0; i < d->objects.n; i++) {
		struct dump_object *o = &d->objects.v[i];

		if (o->kmsg)
			protobuf_c_message_free_unpacked(o->kmsg, NULL);
		if (o->msg)
			protobuf_c_message_free_unpacked(&o->msg->base, NULL);
		if (o->local >= 0)
			(void)close(o->local);
		free(o->link);
		free(o->fdinfo);
	}
	for (size_t i = 0; i < d->kept.n; i++)
		(void)close(d->kept.v[i]);
	vec_free(&d->kept);
	vec_free(&d->together);
	dump_tree_free(d);
	vec_free(&d->objects);
	tdestroy(d->names, name_free);
	d->names = NULL;
	for (size_t i = 0; d->index && i < BUCKETS; i++)
		free(d->index->bucket[i].v);
	free(d->index);
	d->index = NULL;
}
