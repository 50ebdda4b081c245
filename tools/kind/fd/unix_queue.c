// SPDX-License-Identifier: GPL-2.0-only
/*
 * What waits in an AF_UNIX socket: bytes, messages with their boundaries, descriptors on their way,
 * names and credentials of senders. It is looked at with MSG_PEEK at growing offsets; the offset is
 * a property of the program's socket, so this runs guarded and is set back in any case.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/guard.h"
#include "kind/fd/sockopt.h"
#include "kind/fd/unix.h"

#define SCM_FDS_MAX 253 /* SCM_MAX_FD */
#define QUEUE_MAX (1u << 30)

#define SUN_PATH_OFF offsetof(struct sockaddr_un, sun_path)

struct chunk {
	char *data;
	size_t len;
	int fds[SCM_FDS_MAX];
	size_t n_fds;
	char from[sizeof(((struct sockaddr_un *)0)->sun_path)];
	size_t from_len;
	struct ucred cred;
	bool has_cred;
};

struct peek {
	int fd;
	bool stream, ends;
	size_t room; /* bytes of buf */
	char *buf;
	struct {
		struct chunk *v;
		size_t n, cap;
	} chunks;
};

static void chunk_drop_fds(struct chunk *c)
{
	for (size_t i = 0; i < c->n_fds; i++)
		(void)close(c->fds[i]);
	c->n_fds = 0;
}

static void chunk_cmsg(struct chunk *c, struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t len = h->cmsg_len - CMSG_LEN(0);

		if (h->cmsg_level != SOL_SOCKET)
			continue;
		if (h->cmsg_type == SCM_RIGHTS && len <= sizeof(c->fds)) {
			memcpy(c->fds, CMSG_DATA(h), len);
			c->n_fds = len / sizeof(int);
		} else if (h->cmsg_type == SCM_CREDENTIALS && len >= sizeof(c->cred)) {
			memcpy(&c->cred, CMSG_DATA(h), sizeof(c->cred));
			c->has_cred = true;
		} else if (h->cmsg_type == 4 /* SCM_PIDFD */ && len == sizeof(int)) {
			int pidfd;

			memcpy(&pidfd, CMSG_DATA(h), sizeof(pidfd));
			(void)close(pidfd);
		}
	}
}

/* Look at up to @len bytes at offset @off. Returns how many there are, or -errno. */
static ssize_t peek_at(struct peek *p, int off, size_t len, struct chunk *ret, bool *ret_more)
{
	char ctl[CMSG_SPACE(sizeof(ret->fds)) + CMSG_SPACE(sizeof(struct ucred)) +
		 CMSG_SPACE(sizeof(int)) + 256];
	struct sockaddr_un from;
	struct iovec iov = { p->buf, len };
	struct msghdr m = { .msg_name = &from,
			    .msg_namelen = sizeof(from),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	ssize_t n;

	memset(ret, 0, sizeof(*ret));
	if (setsockopt(p->fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)))
		return -errno;
	n = recvmsg(p->fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	chunk_cmsg(ret, &m);
	*ret_more = m.msg_flags & MSG_TRUNC;
	if (m.msg_flags & MSG_CTRUNC) {
		chunk_drop_fds(ret);
		return -EMFILE;
	}
	if (!p->stream && m.msg_namelen > SUN_PATH_OFF) {
		ret->from_len = m.msg_namelen - SUN_PATH_OFF;
		memcpy(ret->from, from.sun_path, ret->from_len);
	}
	ret->len = (size_t)n;
	return n;
}

/*
 * A look at a stream ends behind the bytes that carry descriptors, and may begin with bytes of
 * earlier writes that can be read without them. How many: the kernel copies write by write, so when
 * the last of
 * @len bytes has no room, it stops in front of the write they belong to.
 */
static ssize_t stream_boundary(struct peek *p, int off, size_t len)
{
	struct iovec iov[] = { { p->buf, len - 1 }, { (void *)1, 4096 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (setsockopt(p->fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)))
		return -errno;
	n = recvmsg(p->fd, &m, MSG_PEEK | MSG_DONTWAIT);
	return n >= 0 ? n : errno == EFAULT ? 0 : -errno;
}

static int chunk_keep(struct peek *p, struct chunk *c, size_t from, size_t len)
{
	struct chunk *to = vec_push(&p->chunks);

	if (!to)
		return -ENOMEM;
	*to = *c;
	to->len = len;
	to->data = malloc(len + 1);
	if (!to->data)
		return -ENOMEM;
	memcpy(to->data, p->buf + from, len);
	return 0;
}

static int peek_next(struct peek *p, int *off)
{
	struct chunk c;
	ssize_t before, n;
	bool more = false;

	n = peek_at(p, *off, p->room, &c, &more);
	if (n == -EAGAIN)
		return 1;
	if (n < 0)
		return (int)n;
	if (n == 0 && (p->stream || p->ends))
		return 1;
	if (more && !p->stream) {
		char *bigger = p->room < QUEUE_MAX ? realloc(p->buf, p->room * 4) : NULL;

		chunk_drop_fds(&c);
		if (!bigger)
			return -ENOMEM;
		p->buf = bigger;
		p->room *= 4;
		return 0;
	}
	if (p->stream && c.n_fds) {
		before = stream_boundary(p, *off, (size_t)n);
		if (before) {
			chunk_drop_fds(&c);
			if (before < 0)
				return (int)before;
			n = before;
		}
	}
	*off += (int)n;
	return chunk_keep(p, &c, 0, (size_t)n);
}

static int peek_all(void *arg)
{
	struct peek *p = arg;
	int off = 0, rc, was = sockopt_get(p->fd, SOL_SOCKET, SO_PEEK_OFF);

	do
		rc = peek_next(p, &off);
	while (!rc);
	if (setsockopt(p->fd, SOL_SOCKET, SO_PEEK_OFF, &was, sizeof(was)))
		return -errno;
	return rc < 0 ? rc : 0;
}

/* A stream without anything special can be read in one piece, which changes nothing. */
static int peek_plain(struct peek *p, int queued)
{
	char ctl[64];
	struct iovec iov = { p->buf, p->room };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl)
	};
	struct chunk c = { 0 };
	ssize_t n;

	if (!p->stream || sockopt_get(p->fd, SOL_SOCKET, SO_PEEK_OFF) >= 0 ||
	    sockopt_get(p->fd, SOL_SOCKET, SO_PASSCRED) > 0)
		return 1;
	n = recvmsg(p->fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	chunk_cmsg(&c, &m);
	if (n != queued || c.n_fds || m.msg_flags & MSG_CTRUNC) {
		chunk_drop_fds(&c);
		return 1;
	}
	return chunk_keep(p, &c, 0, (size_t)n);
}

/* A descriptor on its way becomes an object; it is kept open as long as the dump may compare with
 * it. */
static int flying_object(struct dump_ctx *d, int *fd, uint32_t *ret_id, struct ckpt_err *err)
{
	int rc;

	*ret_id = dump_object_find(d, getpid(), *fd);
	if (*ret_id)
		return 0;
	rc = dump_object_fd(d, getpid(), *fd, ret_id, err);
	return rc ? rc : dump_keep_fd(d, take_fd(fd), err);
}

static int chunk_dump(struct dump_ctx *d, struct chunk *c, Ckpt__FdUnix *m, struct ckpt_err *err)
{
	Ckpt__UnixChunk *k = kind_msg_new(&ckpt__unix_chunk__descriptor);

	if (!k || kind_push(&m->n_queue, &m->queue, k))
		return ckpt_oom(err);
	k->data.data = (uint8_t *)take_ptr(c->data);
	k->data.len = c->len;
	if (c->from_len) {
		k->from.data = malloc(c->from_len);
		if (!k->from.data)
			return ckpt_oom(err);
		memcpy(k->from.data, c->from, c->from_len);
		k->from.len = c->from_len;
	}
	k->has_cred = c->has_cred;
	k->pid = c->has_cred ? dump_pid_image(d, c->cred.pid) : 0;
	k->uid = c->cred.uid;
	k->gid = c->cred.gid;
	if (!c->n_fds)
		return 0;
	k->objects = calloc(c->n_fds, sizeof(uint32_t));
	if (!k->objects)
		return ckpt_oom(err);
	for (size_t i = 0; i < c->n_fds; i++) {
		int rc = flying_object(d, &c->fds[i], &k->objects[i], err);

		if (rc)
			return ckpt_ctx(err, "a descriptor on its way");
		k->n_objects++;
	}
	return 0;
}

int unix_queue_dump(struct dump_ctx *d, int fd, int type, bool ends, Ckpt__FdUnix *m,
		    struct ckpt_err *err)
{
	struct peek p = { .fd = fd, .stream = type == SOCK_STREAM, .ends = ends };
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLPRI };
	int queued = 0, rc;

	if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLIN))
		return 0;
	if (p.stream && (pfd.revents & POLLPRI))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "urgent data (MSG_OOB) waits in the socket");
	(void)ioctl(fd, SIOCINQ, &queued);
	p.room = (size_t)queued + 4096;
	p.buf = malloc(p.room);
	if (!p.buf)
		return ckpt_oom(err);
	rc = p.stream && !queued ? 0 : peek_plain(&p, queued);
	if (rc > 0)
		rc = guard_run(peek_all, &p);
	if (rc)
		rc = ckpt_fail_errno(err, E_FREEZE, rc, "cannot look at what waits in the socket");
	for (size_t i = 0; i < p.chunks.n; i++) {
		if (!rc)
			rc = chunk_dump(d, &p.chunks.v[i], m, err);
		for (size_t k = 0; k < p.chunks.v[i].n_fds; k++)
			if (p.chunks.v[i].fds[k] >= 0)
				(void)close(p.chunks.v[i].fds[k]);
		free(p.chunks.v[i].data);
	}
	vec_free(&p.chunks);
	free(p.buf);
	return rc;
}

/* ---- restore ------------------------------------------------------------------------------ */

/* The socket of the tree that has this name. Only for datagrams with a sender's name. */
static int sender_find(struct restore_ctx *r, const ProtobufCBinaryData *from, int *ret_fd,
		       struct ckpt_err *err)
{
	const Ckpt__Object *o;

	for (uint32_t id = 1; (o = restore_object(r, id)); id++) {
		const Ckpt__FdUnix *m;

		if (strcmp(o->state->kind, "unix") != 0)
			continue;
		m = restore_object_msg(r, id, err);
		if (!m)
			return err->code;
		if (m->type == SOCK_DGRAM && m->name.len == from->len &&
		    !memcmp(m->name.data, from->data, from->len))
			return restore_object_fd(r, id, ret_fd, err);
	}
	return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
			 "the sender of a datagram is not in the image");
}

static int chunk_send(struct restore_ctx *r, const Ckpt__UnixChunk *k, int from,
		      const struct sockaddr_un *to, socklen_t to_len, struct ckpt_err *err)
{
	char ctl[CMSG_SPACE(SCM_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))] = { 0 };
	struct iovec iov = { k->data.data, k->data.len };
	struct msghdr m = { .msg_name = (void *)to,
			    .msg_namelen = to_len,
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl };
	struct ucred cred = { .pid = k->pid, .uid = k->uid, .gid = k->gid };
	struct cmsghdr *h = (struct cmsghdr *)ctl;
	size_t sent = 0;

	if (k->n_objects > SCM_FDS_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "%zu descriptors in a message",
				 k->n_objects);
	if (k->n_objects) {
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(k->n_objects * sizeof(int));
		for (size_t i = 0; i < k->n_objects; i++) {
			int fd, rc = restore_object_fd(r, k->objects[i], &fd, err);

			if (rc)
				return rc;
			memcpy(CMSG_DATA(h) + i * sizeof(int), &fd, sizeof(int));
		}
		m.msg_controllen += CMSG_SPACE(k->n_objects * sizeof(int));
		h = (struct cmsghdr *)(ctl + m.msg_controllen);
	}
	if (k->has_cred && k->pid > 0) {
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_CREDENTIALS;
		h->cmsg_len = CMSG_LEN(sizeof(cred));
		memcpy(CMSG_DATA(h), &cred, sizeof(cred));
		m.msg_controllen += CMSG_SPACE(sizeof(cred));
	}
	do {
		ssize_t n = sendmsg(from, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == ESRCH && k->has_cred) {
			/* The sender is gone and its pid not taken: nobody can speak for it. */
			m.msg_controllen -= CMSG_SPACE(sizeof(cred));
			continue;
		}
		if (n < 0)
			return ckpt_fail_errno(err, E_RESTORE, -errno,
					       "cannot put %zu bytes back into a socket",
					       k->data.len);
		sent += (size_t)n;
		iov.iov_base = k->data.data + sent;
		iov.iov_len = k->data.len - sent;
		m.msg_controllen = 0; /* descriptors travel once */
	} while (sent < k->data.len);
	return 0;
}

int unix_queue_restore(struct restore_ctx *r, const Ckpt__FdUnix *m, int fd, int peer_fd,
		       struct ckpt_err *err)
{
	struct sockaddr_un to;
	socklen_t to_len = 0;
	auto_fd file = -1;
	auto_fd nobody = -1;
	int rc = 0;

	if (m->type == SOCK_DGRAM && m->n_queue && m->bound)
		rc = unix_address(fd, &to, &to_len, &file, err);
	for (size_t i = 0; !rc && i < m->n_queue; i++) {
		const Ckpt__UnixChunk *k = m->queue[i];
		struct sockopt_room room;
		int from = peer_fd;

		if (m->type == SOCK_DGRAM && k->from.len) {
			rc = sender_find(r, &k->from, &from, err);
		} else if (from < 0) {
			if (nobody < 0)
				nobody = socket(AF_UNIX, (int)m->type | SOCK_CLOEXEC, 0);
			from = nobody;
		}
		if (rc)
			break;
		if (from < 0 || (from != peer_fd && !to_len))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "nobody can have sent this to a socket");
		sockopt_room_make(from, k->data.len, &room);
		rc = chunk_send(r, k, from, from == peer_fd ? NULL : &to,
				from == peer_fd ? 0 : to_len, err);
		sockopt_room_undo(from, &room);
	}
	return rc;
}
