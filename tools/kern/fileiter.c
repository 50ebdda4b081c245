// SPDX-License-Identifier: GPL-2.0-only
#include "kern/fileiter.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"

/* Their argument: { struct bpf_iter_meta { seq, … } *, task *, u32 fd, file * }, task and file NULL
 * at the end. */
#define ARG_TASK 8
#define ARG_FD 16
#define ARG_FILE 24

/* Where the kernel keeps it. */
struct layout {
	uint32_t func;
	int op, inode, flags, pos, priv; /* of struct file */
	int owner, signal;               /* who is told of I/O, and by what: both 0 for nobody */
	int ino, mode, locks, super;     /* of struct inode */
	int dev;                         /* of struct super_block */
	int files, fdt, cloexec;         /* from the task to the bits of close-on-exec */
	int sk;                          /* of struct socket */
	int family, type, protocol, state;
	uint32_t sock4_bytes, sock_bytes, socket_bytes; /* sock4_bytes: of the smaller kind */
};

/* Part of a file, or since Linux 6.12 behind a pointer that is NULL before F_SETOWN and F_SETSIG.
 */
static void owner_find(struct layout *l, const struct btf *b, uint32_t file)
{
	uint32_t part = btf_struct(b, "fown_struct"), first, end;
	int at = btf_offset(b, file, "f_owner");
	int pid = btf_offset(b, part, "pid"), sig = btf_offset(b, part, "signum");

	l->owner = l->signal = -1;
	if (at < 0 || !btf_member_at(b, file, (uint32_t)at, &first, &end))
		return;
	if (end - first == sizeof(void *)) {
		l->owner = l->signal = at;
	} else if (pid >= 0 && sig >= 0) {
		l->owner = at + pid;
		l->signal = at + sig;
	}
}

static uint32_t sock_words(const struct layout *l)
{
	return (l->sock_bytes + 7) / 8;
}

static uint32_t record_words(const struct layout *l)
{
	return sock_words(l) + (l->socket_bytes + 7) / 8;
}

static int layout_find(struct layout *ret, struct btf *b)
{
	uint32_t file, inode, sock, common, socket;
	int rc = btf_load(b), within;

	if (rc)
		return rc;
	file = btf_struct(b, "file");
	inode = btf_struct(b, "inode");
	sock = btf_struct(b, "sock");
	common = btf_struct(b, "sock_common");
	socket = btf_struct(b, "socket");
	within = btf_offset(b, sock, "__sk_common");
	*ret = (struct layout) {
		.func = btf_find(b, BTF_KIND_FUNC, "bpf_iter_task_file"),
		.op = btf_offset(b, file, "f_op"),
		.inode = btf_offset(b, file, "f_inode"),
		.flags = btf_offset(b, file, "f_flags"),
		.pos = btf_offset(b, file, "f_pos"),
		.priv = btf_offset(b, file, "private_data"),
		.ino = btf_offset(b, inode, "i_ino"),
		.mode = btf_offset(b, inode, "i_mode"),
		.locks = btf_offset(b, inode, "i_flctx"),
		.super = btf_offset(b, inode, "i_sb"),
		.dev = btf_offset(b, btf_struct(b, "super_block"), "s_dev"),
		.files = btf_offset(b, btf_struct(b, "task_struct"), "files"),
		.fdt = btf_offset(b, btf_struct(b, "files_struct"), "fdt"),
		.cloexec = btf_offset(b, btf_struct(b, "fdtable"), "close_on_exec"),
		.sk = btf_offset(b, socket, "sk"),
		.family = btf_offset(b, common, "skc_family"),
		.type = btf_offset(b, sock, "sk_type"),
		.protocol = btf_offset(b, sock, "sk_protocol"),
		.state = btf_offset(b, common, "skc_state"),
		.sock4_bytes = btf_size(b, btf_struct(b, "tcp_sock")),
		.sock_bytes = btf_size(b, btf_struct(b, "tcp6_sock")),
		.socket_bytes = btf_size(b, socket),
	};
	owner_find(ret, b, file);
	/* The common part comes first, in every kernel that has one. */
	return !ret->func || within || ret->op < 0 || ret->inode < 0 || ret->flags < 0 ||
			       ret->pos < 0 || ret->priv < 0 || ret->ino < 0 || ret->mode < 0 ||
			       ret->locks < 0 || ret->super < 0 || ret->dev < 0 || ret->owner < 0 ||
			       ret->files < 0 || ret->fdt < 0 || ret->cloexec < 0 || ret->sk < 0 ||
			       ret->family < 0 || ret->type < 0 || ret->protocol < 0 ||
			       ret->state < 0 || !ret->sock4_bytes ||
			       ret->sock_bytes <= ret->sock4_bytes || !ret->socket_bytes ||
			       record_words(ret) > SOCK_RECORD_WORDS
		       ? -EOPNOTSUPP
		       : 0;
}

/* r8: the socket, r9: its struct sock; whatever they point to if it is none. */
static void put_socket(struct bpf_program *p, const struct layout *l, int work)
{
	BPF_PUT(p, FETCH(work, 8, 7, l->priv), LOAD(8, 10, work), FETCH(work, 8, 8, l->sk),
		LOAD(9, 10, work));
}

/* ---- views ---------------------------------------------------------------------------------- */

#define VIEW(member) ((int)offsetof(struct file_view, member) - (int)sizeof(struct file_view))
#define WORK (-(int)sizeof(struct file_view) - 8)

/* r8 and r9 as put_socket() has them; r7 points to room for the whole record. In three parts, for
 * what not every socket has might not be there to be read. */
static void put_record(struct bpf_program *p, const struct layout *l)
{
	int all_have = (int)l->sock4_bytes, whole = (int)l->sock_bytes;

	BPF_PUT(p, FETCH_TO(7, 0, all_have, 9, 0),
		FETCH_TO(7, all_have, whole - all_have, 9, all_have),
		FETCH_TO(7, (int)sock_words(l) * 8, (int)l->socket_bytes, 8, 0));
}

static void put_words(struct bpf_program *p, const struct sock_words *w)
{
	for (unsigned int i = 0; i < w->n; i++)
		BPF_PUT(p, LOAD(1, 7, w->at[i] * 8), STORE(10, 1, VIEW(words) + (int)i * 8));
	for (unsigned int i = w->n; i < SOCK_WORDS_MAX; i++)
		BPF_PUT(p, STORE_IMM(10, 0, VIEW(words) + (int)i * 8));
}

/* Of what is no socket nothing is read as if it were one. r9: the type of its inode. */
static void put_unless_socket(struct bpf_program *p)
{
	size_t at = p->n;

	BPF_PUT(p, IF_EQUAL(9, S_IFSOCK, 0));
	for (int i = VIEW(family); i < 0; i += 8)
		BPF_PUT(p, STORE_IMM(10, 0, i));
	bpf_put_write(p, sizeof(struct file_view));
	bpf_put_leave(p);
	if (!p->failed)
		p->v[at].off = (int16_t)(p->n - at - 1);
}

static int view_program(const struct layout *l, const struct sock_words *w)
{
	auto_fd room = bpf_room(SOCK_RECORD_WORDS * 8);
	struct bpf_program p = { 0 };

	if (room < 0)
		return room;
	/* r7: the file. */
	bpf_put_begin(&p, ARG_FILE);
	BPF_PUT(&p, LOAD(8, 6, ARG_TASK), IF_SET(8, 2));
	bpf_put_leave(&p);
	BPF_PUT(&p, FETCH(WORK, 8, 8, l->files), LOAD(8, 10, WORK), FETCH(WORK, 8, 8, l->fdt),
		LOAD(8, 10, WORK), FETCH(WORK, 8, 8, l->cloexec), LOAD(8, 10, WORK),
		LOAD32(9, 6, ARG_FD), STORE(10, 9, VIEW(fd)), STORE(10, 7, VIEW(file)),
		SHIFT_RIGHT(9, 6), SHIFT_LEFT(9, 3), ADD_REG(9, 8), FETCH(VIEW(cloexec), 8, 9, 0));
	BPF_PUT(&p, FETCH(VIEW(flags), 4, 7, l->flags), FETCH(VIEW(pos), 8, 7, l->pos),
		FETCH(VIEW(op), 8, 7, l->op), FETCH(VIEW(owner), 8, 7, l->owner),
		FETCH(VIEW(signal), 4, 7, l->signal), FETCH(WORK, 8, 7, l->inode),
		LOAD(8, 10, WORK), FETCH(VIEW(ino), 8, 8, l->ino),
		FETCH(VIEW(locks), 8, 8, l->locks), FETCH(WORK, 2, 8, l->mode), LOAD16(9, 10, WORK),
		AND(9, S_IFMT), FETCH(WORK, 8, 8, l->super), LOAD(8, 10, WORK),
		FETCH(VIEW(sdev), 4, 8, l->dev));
	put_unless_socket(&p);
	put_socket(&p, l, WORK);
	bpf_put_room(&p, 7, room);
	put_record(&p, l);
	BPF_PUT(&p, LOAD16(1, 7, l->family), STORE(10, 1, VIEW(family)), LOAD16(1, 7, l->type),
		STORE(10, 1, VIEW(type)), LOAD16(1, 7, l->protocol), STORE(10, 1, VIEW(protocol)),
		LOAD8(1, 7, l->state), STORE(10, 1, VIEW(state)));
	put_words(&p, w);
	bpf_put_write(&p, sizeof(struct file_view));
	bpf_put_leave(&p);
	return bpf_program_load(&p, "ckpt_files", l->func);
}

/* A socket of ckpt's own, seen as it is now; false: it is not there. */
static bool own_view(const struct file_iter *it, int fd, struct file_view *ret)
{
	struct file_views own = { 0 };
	const struct file_view *v;

	if (file_iter_read(it, getpid(), &own))
		return false;
	v = file_view_find(&own, fd);
	if (v)
		*ret = *v;
	free(own.v);
	return v;
}

/* Does a view say what is known of it otherwise? */
static bool own_is_right(const struct file_iter *it, int fd)
{
	struct file_view v;

	return own_view(it, fd, &v) && v.family == AF_INET && v.protocol == IPPROTO_TCP &&
	       file_view_cloexec(&v) && !v.owner && !v.signal && !fcntl(fd, F_SETSIG, SIGUSR1) &&
	       own_view(it, fd, &v) && v.signal && !fcntl(fd, F_SETOWN, getpid()) &&
	       own_view(it, fd, &v) && v.owner;
}

int file_iter_open(struct file_iter *ret, struct btf *types, const struct sock_words *words)
{
	auto_fd sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	struct file_iter it = { .prog_fd = -1 };
	struct file_view v;
	struct layout l;
	int rc = layout_find(&l, types);

	*ret = it;
	if (rc || sock < 0 || ckpt_fault("kern.files"))
		return rc ? rc : -EOPNOTSUPP;
	it.prog_fd = view_program(&l, words);
	if (it.prog_fd < 0)
		return it.prog_fd;
	if (own_view(&it, sock, &v) && own_is_right(&it, sock))
		it.op = v.op;
	else
		rc = -EOPNOTSUPP;
	if (rc)
		file_iter_close(&it);
	*ret = it;
	return rc;
}

void file_iter_close(struct file_iter *it)
{
	if (it->prog_fd >= 0)
		(void)close(it->prog_fd);
	*it = (struct file_iter) { .prog_fd = -1 };
}

/* When they do not fit into the kernel's buffer the iterator goes on behind the last. */
static bool ascends(const void *buf, size_t len, size_t n)
{
	const struct file_view *v =
		(const struct file_view *)(const void *)((const char *)buf + len);

	return n >= sizeof(*v) && (!len || v[0].fd > v[-1].fd);
}

int file_iter_read(const struct file_iter *it, int pid, struct file_views *ret)
{
	static const struct bpf_iter_records as = { .bytes = sizeof(*ret->v),
						    .max = SIZE_MAX,
						    .more = ascends };
	void *v = NULL;
	size_t n = 0;
	int rc = bpf_iter_read(it->prog_fd, BPF_ITER_THREAD, pid, &as, &v, &n);

	*ret = (struct file_views) { 0 };
	if (rc)
		return rc;
	*ret = (struct file_views) { v, n };
	return 0;
}

const struct file_view *file_view_find(const struct file_views *v, int fd)
{
	return bpf_record_find(v->v, v->n, sizeof(*v->v), (uint64_t)fd);
}

bool file_view_cloexec(const struct file_view *v)
{
	return v->cloexec >> (v->fd % 64) & 1;
}

/* 20 bits of it are the minor number. */
dev_t file_view_dev(const struct file_view *v)
{
	return makedev((unsigned int)(v->sdev >> 20), (unsigned int)(v->sdev & 0xfffff));
}

bool file_view_tcp(const struct file_iter *it, const struct file_view *v)
{
	return v->op == it->op && (v->family == AF_INET || v->family == AF_INET6) &&
	       v->type == SOCK_STREAM && v->protocol == IPPROTO_TCP && !v->locks;
}

/* ---- whole records -------------------------------------------------------------------------- */

int sock_record_open(struct sock_record *ret, struct btf *types, int fd)
{
	struct bpf_program p = { 0 };
	struct layout l;
	int rc = layout_find(&l, types);

	*ret = (struct sock_record) { .prog_fd = -1 };
	if (rc)
		return rc;
	/* r7: the file. */
	bpf_put_begin(&p, ARG_FILE);
	BPF_PUT(&p, LOAD32(8, 6, ARG_FD), IF_EQUAL(8, fd, 2));
	bpf_put_leave(&p);
	put_socket(&p, &l, -8);
	bpf_put_copy(&p, 9, sock_words(&l) * 8);
	bpf_put_copy(&p, 8, (l.socket_bytes + 7) / 8 * 8);
	bpf_put_leave(&p);
	*ret = (struct sock_record) {
		.prog_fd = bpf_program_load(&p, "ckpt_sock", l.func),
		.bytes = record_words(&l) * 8,
		.types = types,
		.sock4 = btf_struct(types, "tcp_sock"),
		.sock6 = btf_struct(types, "tcp6_sock"),
		.socket = btf_struct(types, "socket"),
		.sock_bytes = sock_words(&l) * 8,
	};
	return ret->prog_fd < 0 ? ret->prog_fd : 0;
}

void sock_record_close(struct sock_record *r)
{
	if (r->prog_fd >= 0)
		(void)close(r->prog_fd);
	*r = (struct sock_record) { .prog_fd = -1 };
}

bool sock_record_member(const struct sock_record *r, int family, uint32_t at, uint32_t *ret_first,
			uint32_t *ret_end)
{
	bool first = at < r->sock_bytes;
	uint32_t base = first ? 0 : r->sock_bytes;
	uint32_t type = !first ? r->socket : family == AF_INET6 ? r->sock6 : r->sock4;

	if (!btf_member_at(r->types, type, at - base, ret_first, ret_end))
		return false;
	*ret_first += base;
	*ret_end += base;
	return true;
}

int sock_record_offset(const struct sock_record *r, const char *part, const char *name)
{
	return btf_offset(r->types, btf_struct(r->types, part), name);
}

int sock_record_read(const struct sock_record *r, uint64_t words[SOCK_RECORD_WORDS])
{
	const struct bpf_iter_records as = { .bytes = r->bytes, .max = 1 };
	void *v = NULL;
	size_t n = 0;
	int rc = bpf_iter_read(r->prog_fd, BPF_ITER_THREAD, gettid(), &as, &v, &n);

	if (rc)
		return rc;
	memset(words, 0, SOCK_RECORD_WORDS * sizeof(*words));
	memcpy(words, v, r->bytes);
	free(v);
	return 0;
}
