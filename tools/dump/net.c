// SPDX-License-Identifier: GPL-2.0-only
/*
 * The network while a tree stands still (--tcp keep): its connections are locked from the freeze
 * on, and when the tree is ended, until it is back.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/guard.h"
#include "kind/fd/inet.h"
#include "kind/fd/tcprepair.h"
#include "kind/fd/tcpwait.h"

#define BIT(s) (1u << (s))
/* Not those that are over, and those that no descriptor shows. */
#define STATES                                                                                     \
	(BIT(TCP_ESTABLISHED) | BIT(TCP_SYN_SENT) | BIT(TCP_SYN_RECV) | BIT(TCP_FIN_WAIT1) |       \
	 BIT(TCP_FIN_WAIT2) | BIT(TCP_CLOSE_WAIT) | BIT(TCP_LAST_ACK) | BIT(TCP_LISTEN) |          \
	 BIT(TCP_CLOSING))

#define HANDSHAKE_WAIT_US 200000u

struct dump_net_fd {
	int fd, reuse;
};

struct dump_net {
	struct netlock lock;
	struct tcp_diags diags;
	struct netlock_conns conns;
	struct {
		struct dump_net_fd *v;
		size_t n, cap;
	} fds;                 /* connections of a tree that is to end */
	struct tcp_wait *wait; /* those that it had not accepted */
	bool kept;             /* the lock has a name and stays */
	char name[NETLOCK_NAME_MAX];
};

/* Somebody outside the tree listens on that port, too: it is not ours to close. */
static bool port_shared(struct dump_ctx *d, const struct tcp_diag *t)
{
	for (size_t i = 0; i < d->net->diags.n; i++) {
		const struct tcp_diag *o = &d->net->diags.v[i];

		if (o->state == TCP_LISTEN && o->lport == t->lport && o->ino != t->ino &&
		    !dump_tree_anon(d, o->ino))
			return true;
	}
	return false;
}

static int conns_collect(struct dump_ctx *d, struct ckpt_err *err)
{
	for (size_t i = 0; i < d->net->diags.n; i++) {
		const struct tcp_diag *t = &d->net->diags.v[i];
		struct netlock_conn c, *slot;

		if (!t->ino || !dump_tree_anon(d, t->ino))
			continue;
		/* Who wants to connect to a program that is to end shall try again later. */
		if (t->state == TCP_LISTEN && (d->opts->end != TARGET_KILL || port_shared(d, t)))
			continue;
		if (!inet_diag_conn(t, &c))
			continue;
		slot = vec_push(&d->net->conns);
		if (!slot)
			return ckpt_oom(err);
		*slot = c;
	}
	return 0;
}

/* Connections are being made whose peers may believe that they are: nobody could say what their
 * numbers are. */
static bool handshakes(struct dump_ctx *d, const struct tcp_diags *all)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct tcp_diag *t = &all->v[i];

		/* Who has not answered for a second will not now. */
		if (t->ino || t->state != TCP_SYN_RECV || t->repeated)
			continue;
		for (size_t k = 0; k < d->net->conns.n; k++)
			if (!d->net->conns.v[k].rport && d->net->conns.v[k].lport == t->lport)
				return true;
	}
	return false;
}

/* Let what was begun come to its end, and nothing new begin. Who does not answer is left behind. */
static int handshakes_await(struct dump_ctx *d, struct ckpt_err *err)
{
	struct netlock l = { .fd = -1 };
	uint64_t end = io_now_us() + HANDSHAKE_WAIT_US;
	bool any = handshakes(d, &d->net->diags);
	int rc = any ? netlock_take(&l, NETLOCK_NEW, d->net->conns.v, d->net->conns.n, err) : 0;

	if (any && !rc)
		(void)ckpt_fault("tcp.handshakes");
	while (!rc && any && io_now_us() < end) {
		struct tcp_diags now;

		rc = sockdiag_tcp_read(BIT(TCP_SYN_RECV), &now, err);
		any = !rc && handshakes(d, &now);
		vec_free(&now);
		if (any)
			(void)usleep(500);
	}
	if (!rc)
		rc = netlock_take(&d->net->lock, NETLOCK_ALL, d->net->conns.v, d->net->conns.n,
				  err);
	netlock_drop(&l);
	return rc;
}

int dump_net_lock(struct dump_ctx *d, struct ckpt_err *err)
{
	int rc;

	if (d->opts->tcp != CKPT_TCP_KEEP)
		return 0;
	d->net = calloc(1, sizeof(*d->net));
	if (!d->net)
		return ckpt_oom(err);
	d->net->lock.fd = -1;
	rc = sockdiag_tcp_read(STATES, &d->net->diags, err);
	if (!rc)
		rc = conns_collect(d, err);
	if (!rc && d->net->conns.n)
		rc = handshakes_await(d, err);
	if (!rc && (rc = ckpt_fault("tcp.locked")))
		return ckpt_fail_errno(err, E_NETLOCK, rc, "fault point tcp.locked");
	return rc;
}

uint32_t dump_net_peer(const struct dump_ctx *d, ino_t ino, void *ret)
{
	for (size_t i = 0; d->net && i < d->net->diags.n; i++) {
		const struct tcp_diag *t = &d->net->diags.v[i];

		if (t->ino == ino)
			return tcp_diag_remote(t, ret);
	}
	return 0;
}

int dump_net_conn(struct dump_ctx *d, int fd, struct ckpt_err *err)
{
	struct dump_net_fd *slot;
	socklen_t len = sizeof(int);

	d->stats.connections++;
	if (!d->net || d->opts->end != TARGET_KILL)
		return 0;
	slot = vec_push(&d->net->fds);
	if (!slot)
		return ckpt_oom(err);
	slot->reuse = 0;
	(void)getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &slot->reuse, &len);
	slot->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (slot->fd >= 0)
		return 0;
	d->net->fds.n--;
	return ckpt_fail_errno(err, E_LIMIT, -errno,
			       "cannot keep a connection open (RLIMIT_NOFILE)");
}

static void repair(const struct dump_net_fd *f, int how)
{
	(void)tcp_set(f->fd, TCP_REPAIR, how);
	if (how != REPAIR_ON)
		(void)setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &f->reuse, sizeof(f->reuse));
}

/* Returns false where they have to stay: of a tree that goes on, and where others accept as well.
 */
bool dump_net_takes_waiting(struct dump_ctx *d, ino_t ino)
{
	if (!d->net || d->opts->end != TARGET_KILL)
		return false;
	for (size_t i = 0; i < d->net->diags.n; i++)
		if (d->net->diags.v[i].ino == ino)
			return !port_shared(d, &d->net->diags.v[i]);
	return false;
}

int dump_net_waiting(struct dump_ctx *d, int fd, Ckpt__FdInet *m, struct ckpt_err *err)
{
	int rc = tcp_wait_take(&d->net->wait, fd, m, err);

	d->stats.connections += m->n_waiting;
	return rc;
}

/* They go back to the listeners of a tree that goes on, behind the lock. */
static void waiting_end(struct dump_ctx *d)
{
	size_t lost = tcp_wait_end(d->net->wait);

	d->net->wait = NULL;
	if (lost)
		ui_warn(d->ui,
			"%zu connections that nobody had accepted could not be put back: their "
			"peers find them reset",
			lost);
}

/* The last descriptor of a socket in repair mode closes it without a word to the peer. */
void dump_net_silence(struct dump_ctx *d, bool on)
{
	for (size_t i = 0; d->net && i < d->net->fds.n; i++)
		repair(&d->net->fds.v[i], on ? REPAIR_ON : REPAIR_OFF_NO_PROBE);
	if (d->net)
		tcp_wait_give(d->net->wait, on);
}

struct ending {
	struct dump_ctx *d;
	int rc;
	struct ckpt_err err;
};

/*
 * A kill of ckpt does not reach this. At every instant one of the two locks holds; the program is
 * gone, or will be in a moment, from the first line on that makes its connections mute.
 */
static int end_guarded(void *arg)
{
	struct ending *e = arg;
	struct dump_net *n = e->d->net;

	e->rc = netlock_keep(&n->lock, n->name, n->conns.v, n->conns.n, &e->err);
	if (e->rc)
		return 0;
	(void)ckpt_fault("tcp.kept");
	dump_net_silence(e->d, true);
	for (size_t i = 0; i < e->d->target.tasks.n; i++)
		if (!e->d->target.tasks.v[i].zombie)
			(void)kill(e->d->target.tasks.v[i].pid, SIGKILL);
	return 0;
}

int dump_net_end(struct dump_ctx *d, const uint8_t *id, struct ckpt_err *err)
{
	struct ending e = { .d = d };
	int rc;

	if (!d->net || !d->net->conns.n)
		return 0;
	netlock_name(id, d->net->name);
	rc = guard_run(end_guarded, &e);
	if (rc || e.rc) {
		(void)netlock_remove(&d->net->lock, d->net->name);
		dump_net_silence(d, false);
		if (!rc)
			*err = e.err;
		return rc ? ckpt_fail_errno(err, E_NETLOCK, rc, "cannot end the program") : e.rc;
	}
	d->net->kept = true;
	return 0;
}

bool dump_net_any(const struct dump_ctx *d)
{
	return d->net && d->net->conns.n;
}

int dump_net_keep(struct dump_ctx *d, const char *name, struct ckpt_err *err)
{
	if (!d->net || !d->net->conns.n)
		return 0;
	return netlock_keep(&d->net->lock, name, d->net->conns.v, d->net->conns.n, err);
}

const char *dump_net_kept(const struct dump_ctx *d)
{
	return d->net && d->net->kept ? d->net->name : NULL;
}

void dump_net_unlock(struct dump_ctx *d)
{
	if (!d->net)
		return;
	waiting_end(d);
	netlock_lift(&d->net->lock);
}

void dump_net_free(struct dump_ctx *d)
{
	if (!d->net)
		return;
	for (size_t i = 0; i < d->net->fds.n; i++)
		(void)close(d->net->fds.v[i].fd);
	waiting_end(d);
	netlock_drop(&d->net->lock);
	vec_free(&d->net->fds);
	vec_free(&d->net->conns);
	vec_free(&d->net->diags);
	free(d->net);
	d->net = NULL;
}
