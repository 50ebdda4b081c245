// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kern/sockdiag.h"

#define GATHER_BYTES (256u << 10)
#define LARGE_BYTES (GATHER_BYTES / 4) /* not gathered */
#define AHEAD_BYTES 4096u /* read behind something large: the head of what comes next */

/* ---- plain descriptors ------------------------------------------------------------------ */

static ssize_t fd_read(struct link *l, void *buf, size_t len)
{
	ssize_t n = read(l->rfd, buf, len);

	return n < 0 ? -errno : n;
}

static ssize_t fd_write(struct link *l, const void *buf, size_t len)
{
	ssize_t n = send(l->wfd, buf, len, MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK)
		n = write(l->wfd, buf, len);
	return n < 0 ? -errno : n;
}

static ssize_t fd_readv(struct link *l, const struct iovec *v, int n)
{
	ssize_t len = readv(l->rfd, v, n);

	return len < 0 ? -errno : len;
}

static ssize_t fd_writev(struct link *l, const struct iovec *v, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)n };
	ssize_t len = sendmsg(l->wfd, &m, MSG_NOSIGNAL);

	if (len < 0 && errno == ENOTSOCK)
		len = writev(l->wfd, v, n);
	return len < 0 ? -errno : len;
}

static void fd_close(struct link *l)
{
	(void)l;
}

#define FD_OPS                                                                                     \
	.read = fd_read, .write = fd_write, .readv = fd_readv, .writev = fd_writev,                \
	.close = fd_close
static const struct link_ops link_plain = { .name = "tcp", FD_OPS };
static const struct link_ops link_unix = { .name = "unix", .mute = true, FD_OPS };
static const struct link_ops link_pipe = { .name = "ssh", .mute = true, FD_OPS };

static void link_init(struct link *l, const struct link_ops *ops, int rfd, int wfd,
		      const char *peer)
{
	memset(l, 0, sizeof(*l));
	l->ops = ops;
	l->rfd = rfd;
	l->wfd = wfd;
	l->timeout_ms = l->write_timeout_ms = LINK_TIMEOUT_MS;
	(void)snprintf(l->peer, sizeof(l->peer), "%s", peer);
	(void)fcntl(rfd, F_SETFL, fcntl(rfd, F_GETFL) | O_NONBLOCK);
	(void)fcntl(wfd, F_SETFL, fcntl(wfd, F_GETFL) | O_NONBLOCK);
	/* Without them it is slower. */
	l->out = malloc(GATHER_BYTES);
	l->in = malloc(GATHER_BYTES);
	/* A pipe to a dead ssh ends a write with EPIPE, not us. */
	(void)signal(SIGPIPE, SIG_IGN);
}

#define CHILD_MS 5000

/* It ends when its pipes do, unless its own connection is dead. */
static void child_end(pid_t pid)
{
	uint64_t end = io_now_us() + CHILD_MS * 1000u;
	int rc;

	while ((rc = waitpid(pid, NULL, WNOHANG)) == 0 && io_now_us() < end)
		(void)usleep(5000);
	if (rc != 0)
		return;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void link_close(struct link *l)
{
	if (!l->ops)
		return;
	(void)link_flush(l);
	l->ops->close(l);
	free(l->out);
	free(l->in);
	if (l->rfd >= 0)
		(void)close(l->rfd);
	if (l->wfd >= 0 && l->wfd != l->rfd)
		(void)close(l->wfd);
	if (l->child > 0)
		child_end(l->child);
	memset(l, 0, sizeof(*l));
	l->rfd = l->wfd = -1;
}

static int link_wait(struct link *l, bool writing)
{
	short events = writing ? POLLOUT : POLLIN;
	struct pollfd p = { .fd = writing ? l->wfd : l->rfd, .events = events };
	int n;

	if (l->want) {
		p.fd = l->want == POLLOUT ? l->wfd : l->rfd;
		p.events = l->want;
		l->want = 0;
	}
	do
		n = poll(&p, 1, writing ? l->write_timeout_ms : l->timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? 0 : -ETIMEDOUT;
}

bool link_readable(const struct link *l)
{
	struct pollfd p = { .fd = l->rfd, .events = POLLIN };

	return l->pending || l->in_at < l->in_len || poll(&p, 1, 0) > 0;
}

#define LINGER_MS 5000

void link_linger(struct link *l)
{
	uint64_t end = io_now_us() + LINGER_MS * 1000u, now;
	char waste[4096];

	if (!l->ops || link_flush(l) || shutdown(l->wfd, SHUT_WR))
		return;
	while ((now = io_now_us()) < end) {
		struct pollfd p = { .fd = l->rfd, .events = POLLIN };

		if (poll(&p, 1, (int)((end - now) / 1000) + 1) <= 0 ||
		    (read(l->rfd, waste, sizeof(waste)) <= 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

static int write_now(struct link *l, const char *p, size_t len)
{
	while (len) {
		ssize_t n = l->ops->write(l, p, len);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN) {
			int rc = link_wait(l, true);

			if (rc)
				return rc;
			continue;
		}
		if (n <= 0)
			return n ? (int)n : -EPIPE;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int link_flush(struct link *l)
{
	int rc = l->out_failed;

	if (!rc && l->out_len)
		rc = write_now(l, l->out, l->out_len);
	while (!rc && l->ops->flush) {
		rc = l->ops->flush(l);
		if (!rc)
			break;
		if (rc == -EAGAIN)
			rc = link_wait(l, true);
	}
	l->out_len = 0;
	l->out_failed = rc;
	return rc;
}

/* All of what is large goes to its place at once; some of what follows may come with it. */
static ssize_t read_large(struct link *l, char *buf, size_t len)
{
	struct iovec v[] = { { buf, len }, { l->in, AHEAD_BYTES } };
	ssize_t n;

	if (!l->in || !l->ops->readv)
		return l->ops->read(l, buf, len);
	n = l->ops->readv(l, v, 2);
	if (n <= (ssize_t)len)
		return n;
	l->in_at = 0;
	l->in_len = (size_t)n - len;
	return (ssize_t)len;
}

/* Bytes into @buf, at most @len, without waiting. */
static ssize_t read_some(struct link *l, char *buf, size_t len)
{
	ssize_t n;

	if (l->in_at == l->in_len) {
		if (!l->in || len >= LARGE_BYTES)
			return read_large(l, buf, len);
		n = l->ops->read(l, l->in, GATHER_BYTES);
		if (n <= 0)
			return n;
		l->in_at = 0;
		l->in_len = (size_t)n;
	}
	if (len > l->in_len - l->in_at)
		len = l->in_len - l->in_at;
	memcpy(buf, l->in + l->in_at, len);
	l->in_at += len;
	return (ssize_t)len;
}

int link_read_full(struct link *l, void *buf, size_t len)
{
	char *p = buf;

	/* The other end may have said why it does not listen any more: that is still read. */
	if (l->in_at == l->in_len)
		(void)link_flush(l);
	while (len) {
		ssize_t n = read_some(l, p, len);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN) {
			int rc = link_wait(l, false);

			if (rc)
				return rc;
			continue;
		}
		if (n <= 0)
			return n ? (int)n : -ENODATA;
		p += n;
		len -= (size_t)n;
		l->received += (uint64_t)n;
	}
	return 0;
}

/* Sleep as long as @len more bytes would be early. */
static void link_pace(struct link *l, size_t len)
{
	uint64_t now = io_now_us(), due;

	if (!l->limit)
		return;
	if (!l->limit_at || now - l->limit_at > 1000000) {
		l->limit_at = now;
		l->limit_sent = 0;
	}
	l->limit_sent += len;
	due = l->limit_at + l->limit_sent * 1000000 / l->limit;
	if (due > now)
		(void)usleep((useconds_t)(due - now));
}

/* What was gathered, and @data behind it. */
static int write_through(struct link *l, const char *data, size_t len)
{
	int rc = 0;

	while (!rc && l->out_len && l->ops->writev) {
		struct iovec v[] = { { l->out, l->out_len }, { (void *)data, len } };
		ssize_t n = l->ops->writev(l, v, 2);

		if (n == -EAGAIN)
			rc = link_wait(l, true);
		else if (n <= 0 && n != -EINTR)
			rc = n ? (int)n : -EPIPE;
		if (n <= 0)
			continue;
		if ((size_t)n < l->out_len) {
			memmove(l->out, l->out + n, l->out_len - (size_t)n);
			l->out_len -= (size_t)n;
			continue;
		}
		n -= (ssize_t)l->out_len;
		l->out_len = 0;
		data += n;
		len -= (size_t)n;
	}
	if (!rc && l->out_len)
		rc = write_now(l, l->out, l->out_len);
	l->out_len = 0;
	return rc ? rc : write_now(l, data, len);
}

int link_write_full(struct link *l, const void *buf, size_t len)
{
	int rc = l->out_failed;

	if (rc)
		return rc;
	link_pace(l, len);
	if (l->out && len < LARGE_BYTES) {
		if (l->out_len + len > GATHER_BYTES)
			rc = write_through(l, NULL, 0);
		if (!rc) {
			memcpy(l->out + l->out_len, buf, len);
			l->out_len += len;
		}
	} else {
		rc = write_through(l, buf, len);
	}
	l->out_failed = rc;
	if (!rc)
		l->sent += len;
	return rc;
}

/* ---- addresses -------------------------------------------------------------------------- */

/* "host:port", "[v6]:port", "host" → two strings; false when malformed. */
static bool split_host(const char *s, char *host, size_t hlen, char *port, size_t plen)
{
	const char *colon = strrchr(s, ':'), *end;

	(void)snprintf(port, plen, "%s", LINK_PORT);
	if (*s == '[') {
		end = strchr(s, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		(void)snprintf(host, hlen, "%.*s", (int)(end - s - 1), s + 1);
		if (end[1])
			(void)snprintf(port, plen, "%s", end + 2);
		return *port != 0;
	}
	if (!colon || strchr(s, ':') != colon) { /* none, or a bare IPv6 address */
		(void)snprintf(host, hlen, "%s", s);
		return *host != 0;
	}
	(void)snprintf(host, hlen, "%.*s", (int)(colon - s), s);
	(void)snprintf(port, plen, "%s", colon + 1);
	return *port != 0;
}

static int resolve(const char *s, bool passive, struct addrinfo **ret, struct ckpt_err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = passive ? AI_PASSIVE : 0 };
	char host[256], port[32];
	int rc;

	if (!split_host(s, host, sizeof(host), port, sizeof(port)))
		return ckpt_fail(err, E_USAGE, -EINVAL, "\"%s\" is not HOST[:PORT]", s);
	rc = getaddrinfo(*host ? host : NULL, port, &hints, ret);
	if (rc)
		return (void)ckpt_fail(err, passive ? E_USAGE : E_PEER, -EHOSTUNREACH,
				       "cannot resolve %s: %s", s, gai_strerror(rc)),
		       ckpt_remedy(err, passive ? "name an address of this node, and a port: "
						  "0.0.0.0:" LINK_PORT
						: "name the other node as HOST[:PORT]: the program "
						  "still runs here");
	return 0;
}

static int unix_address(const char *path, struct sockaddr_un *ret, struct ckpt_err *err)
{
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	if (!*path || strlen(path) >= sizeof(ret->sun_path))
		return ckpt_fail(err, E_USAGE, -ENAMETOOLONG, "the socket path \"%s\" is too long",
				 path);
	strcpy(ret->sun_path, path);
	return 0;
}

/* Only root and ourselves may talk to us over a unix socket. */
static int unix_check(int fd, struct ckpt_err *err)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len))
		return ckpt_fail_errno(err, E_PEER, -errno, "cannot ask who is at the socket");
	if (c.uid != 0 && c.uid != geteuid())
		return ckpt_fail(err, E_PEER, -EPERM, "uid %u may not talk to ckpt", c.uid);
	return 0;
}

static void tcp_tune(int fd)
{
	int on = 1, timeout = LINK_TIMEOUT_MS;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

void link_hurry(struct link *l)
{
	int ms = LINK_STILL_MS, one = 1, count = LINK_STILL_MS / 1000;

	l->write_timeout_ms = LINK_STILL_MS;
	if (l->ops->mute) {
		l->timeout_ms = l->dead_ms = LINK_STILL_MS;
		return;
	}
	/* The kernel of the other end answers for it, whatever it does itself. */
	if (!setsockopt(l->wfd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) &&
	    !setsockopt(l->wfd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof(one)) &&
	    !setsockopt(l->wfd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one)) &&
	    !setsockopt(l->wfd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count)))
		l->dead_ms = LINK_STILL_MS;
}

static int need_auth(const struct link_auth *auth, struct ckpt_err *err)
{
	if (auth->key || auth->insecure)
		return 0;
	(void)ckpt_fail(err, E_USAGE, -EINVAL, "a migration over TCP needs a key");
	return ckpt_remedy(err, "make one with ckpt keygen, give each node its half with --key; or "
				"agree to plain TCP on both with --insecure");
}

static int connect_timeout(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t sl = sizeof(int);
	int e = 0;

	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (!connect(fd, sa, len))
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	if (poll(&p, 1, 10000) <= 0)
		return -ETIMEDOUT;
	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &sl);
	return -e;
}

static int connect_tcp(const char *to, const struct link_auth *auth, struct link *ret,
		       struct ckpt_err *err)
{
	struct addrinfo *list = NULL;
	int fd = -1, rc = need_auth(auth, err);

	if (!rc && auth->key)
		rc = link_key_check(auth->key, err);
	if (!rc)
		rc = resolve(to, false, &list, err);
	if (rc)
		return rc;
	rc = -EHOSTUNREACH;
	for (struct addrinfo *a = list; a && rc; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		rc = fd < 0 ? -errno : connect_timeout(fd, a->ai_addr, a->ai_addrlen);
		if (rc && fd >= 0)
			(void)close(fd);
	}
	freeaddrinfo(list);
	if (rc) {
		(void)ckpt_fail_errno(err, E_PEER, rc, "cannot connect to %s", to);
		return ckpt_remedy(err, "start the peer there: ckpt receive --listen ADDRESS");
	}
	tcp_tune(fd);
	link_init(ret, &link_plain, fd, fd, to);
	rc = auth->key ? link_tls(ret, auth->key, false, err) : 0;
	if (rc)
		link_close(ret);
	return rc;
}

static int connect_unix(const char *path, struct link *ret, struct ckpt_err *err)
{
	struct sockaddr_un sa;
	auto_fd fd = -1;
	int rc = unix_address(path, &sa, err);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		(void)ckpt_fail_errno(err, E_PEER, -errno, "cannot connect to %s", path);
		return ckpt_remedy(err, "start the peer: ckpt receive --unix %s", path);
	}
	rc = unix_check(fd, err);
	if (rc)
		return rc;
	link_init(ret, &link_unix, fd, fd, path);
	(void)take_fd(&fd);
	return 0;
}

/* The peer at the other end of ssh's pipes. ssh knows who that is. */
static int connect_ssh(const char *host, struct link *ret, struct ckpt_err *err)
{
	const char *ssh = getenv("CKPT_SSH"), *remote = getenv("CKPT_REMOTE");
	int in[2], out[2];
	pid_t pid;

	if (!*host || *host == '-')
		return ckpt_fail(err, E_USAGE, -EINVAL, "\"ssh://%s\" names no host", host);
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return ckpt_fail_errno(err, E_PEER, -errno, "cannot make pipes for ssh");
	pid = fork();
	if (pid == 0) {
		if (dup2(in[0], 0) >= 0 && dup2(out[1], 1) >= 0)
			execlp(ssh ? ssh : "ssh", ssh ? ssh : "ssh", "-oBatchMode=yes", "-e",
			       "none", host, remote ? remote : "ckpt", "receive", "--stdio",
			       (char *)NULL);
		_exit(127);
	}
	(void)close(in[0]);
	(void)close(out[1]);
	link_init(ret, &link_pipe, out[0], in[1], host);
	ret->child = pid > 0 ? pid : 0;
	if (pid < 0) {
		link_close(ret);
		return ckpt_fail_errno(err, E_PEER, -errno, "cannot start ssh");
	}
	return 0;
}

int link_connect(const char *to, const struct link_auth *auth, struct link *ret,
		 struct ckpt_err *err)
{
	if (!strncmp(to, "unix:", 5))
		return connect_unix(to + 5, ret, err);
	if (!strncmp(to, "ssh://", 6))
		return connect_ssh(to + 6, ret, err);
	return connect_tcp(to, auth, ret, err);
}

static int listen_fail(struct ckpt_err *err, int rc, const char *at)
{
	(void)ckpt_fail_errno(err, E_PEER, rc, "cannot listen at %s", at);
	if (rc == -EADDRINUSE)
		return ckpt_remedy(err, "another program does: end it, or name another place");
	if (rc == -EADDRNOTAVAIL)
		return ckpt_remedy(err, "name an address of this node: ip address");
	return ckpt_remedy(err, "name another place to listen at");
}

/* Does a living program listen at this socket? Where the kernel does not tell: no. */
static bool is_listened_at(const struct stat *st)
{
	struct unix_diags all;
	struct ckpt_err ignore = { 0 };
	bool found = false;

	if (sockdiag_unix_read(&all, &ignore))
		return false;
	for (size_t i = 0; i < all.listeners.n && !found; i++) {
		const struct unix_diag *d = sockdiag_unix_find(&all, all.listeners.v[i]);

		found = d && d->file_ino == (uint32_t)st->st_ino &&
			d->file_dev == (major(st->st_dev) << 20 | minor(st->st_dev));
	}
	sockdiag_unix_free(&all);
	return found;
}

static int listen_unix(const char *path, int *ret_fd, char *ret_name, struct ckpt_err *err)
{
	struct sockaddr_un sa;
	auto_fd fd = -1;
	struct stat st;
	int rc = unix_address(path, &sa, err);
	mode_t old;

	if (rc)
		return rc;
	/* What a dead receive left; anything else than a socket is not ours. */
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
		if (is_listened_at(&st))
			return listen_fail(err, -EADDRINUSE, path);
		(void)unlink(path);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	old = umask(0177);
	rc = fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 16) ? -errno : 0;
	(void)umask(old);
	if (rc)
		return listen_fail(err, rc, path);
	(void)snprintf(ret_name, 128, "unix:%s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int link_listen(const char *at, const struct link_auth *auth, int *ret_fd, char *ret_name,
		struct ckpt_err *err)
{
	struct addrinfo *list = NULL;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[64], port[16];
	auto_fd fd = -1;
	int rc, on = 1;

	if (!strncmp(at, "unix:", 5))
		return listen_unix(at + 5, ret_fd, ret_name, err);
	rc = need_auth(auth, err);
	if (!rc && auth->key)
		rc = link_key_check(auth->key, err);
	if (!rc)
		rc = resolve(at, true, &list, err);
	if (rc || !list)
		return rc;
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rc = 0;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, 16) ||
	    getsockname(fd, (struct sockaddr *)&sa, &len))
		rc = -errno;
	freeaddrinfo(list);
	if (rc)
		return listen_fail(err, rc, at);
	if (getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return ckpt_fail(err, E_PEER, -EINVAL, "cannot name the address %s", at);
	(void)snprintf(ret_name, 128, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	*ret_fd = take_fd(&fd);
	return 0;
}

int link_accept(int fd, const struct link_auth *auth, struct link *ret, struct ckpt_err *err)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char host[64] = "?";
	int rc;

	if (getpeername(fd, (struct sockaddr *)&sa, &len)) {
		(void)close(fd);
		return ckpt_fail_errno(err, E_PEER, -errno, "the connection is gone");
	}
	if (sa.ss_family == AF_UNIX) {
		rc = unix_check(fd, err);
		if (rc) {
			(void)close(fd);
			return rc;
		}
		link_init(ret, &link_unix, fd, fd, "unix socket");
		return 0;
	}
	(void)getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
	tcp_tune(fd);
	link_init(ret, &link_plain, fd, fd, host);
	rc = auth->key ? link_tls(ret, auth->key, true, err) : 0;
	if (rc)
		link_close(ret);
	return rc;
}

int link_stdio(struct link *ret, struct ckpt_err *err)
{
	/* Away from 0 and 1, which stay usable as /dev/null. */
	int rfd = fcntl(0, F_DUPFD_CLOEXEC, 3), wfd = fcntl(1, F_DUPFD_CLOEXEC, 3);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (rfd < 0 || wfd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return ckpt_fail_errno(err, E_PEER, -errno, "cannot use standard input and output");
	(void)close(null);
	link_init(ret, &link_pipe, rfd, wfd, "ssh");
	return 0;
}
