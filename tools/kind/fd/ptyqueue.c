// SPDX-License-Identifier: GPL-2.0-only
/*
 * Terminals have no way to look at a queue without taking from it. So everything is read and
 * written again, with all processing switched off, while the tree stands still. Input passes the
 * line discipline in a worker of the kernel; its echo tells when a byte has arrived there.
 */
#include "kind/fd/ptyqueue.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/guard.h"

#define QUEUE_MAX 65536 /* more than the kernel keeps */
#define LINE_MAX_BYTES 4096
#define ECHO_WAIT_MS 5000

struct job {
	int master;
	Ckpt__Pty *m;
	struct termios2 termios;
};

static int bytes_add(ProtobufCBinaryData *d, const void *data, size_t len)
{
	uint8_t *p;

	if (d->len + len > QUEUE_MAX)
		return -EFBIG;
	p = realloc(d->data, d->len + len + 1);
	if (!p)
		return -ENOMEM;
	memcpy(p + d->len, data, len);
	d->data = p;
	d->len += len;
	return 0;
}

/* The slave, opened anew; descriptions of the program are left alone. */
static int open_slave(int master)
{
	int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int read_all(int fd, ProtobufCBinaryData *ret)
{
	char buf[4096];
	ssize_t n;
	int rc = 0;

	while (!rc && (n = read(fd, buf, sizeof(buf))) > 0)
		rc = bytes_add(ret, buf, (size_t)n);
	return rc;
}

/* Nothing that is written is changed, looked at or answered; lines and echo as asked for. */
static int set_quiet(int slave, const struct termios2 *base, bool lines, bool echo,
		     const unsigned char *ends)
{
	struct termios2 t = *base;

	t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | INPCK | ISTRIP | INLCR | IGNCR | ICRNL |
				 IUCLC | IXON | IXOFF | IXANY | IMAXBEL | IUTF8);
	t.c_oflag &= ~(tcflag_t)OPOST;
	t.c_lflag &= ~(tcflag_t)(ISIG | ICANON | XCASE | ECHO | ECHOE | ECHOK | ECHONL | ECHOCTL |
				 ECHOPRT | ECHOKE | IEXTEN | EXTPROC);
	memset(t.c_cc, 0, sizeof(t.c_cc)); /* _POSIX_VDISABLE */
	if (lines)
		t.c_lflag |= ICANON;
	else
		t.c_cc[VMIN] = 1;
	if (echo)
		t.c_lflag |= ECHO;
	if (ends) {
		t.c_cc[VEOF] = ends[0];
		t.c_cc[VERASE] = ends[1];
	}
	return ioctl(slave, TCSETS2, &t) ? -errno : 0;
}

static int take_lines(int slave, const struct termios2 *t, Ckpt__Pty *m)
{
	char buf[LINE_MAX_BYTES];
	ssize_t n;

	/* A read takes one line; one of nothing is an end of file by itself. */
	while ((n = read(slave, buf, sizeof(buf))) >= 0 && m->n_lines < QUEUE_MAX) {
		Ckpt__PtyLine *l = kind_msg_new(&ckpt__pty_line__descriptor);
		unsigned char last = n ? (unsigned char)buf[n - 1] : 0;

		if (!l || kind_push(&m->n_lines, &m->lines, l))
			return -ENOMEM;
		l->eof = !n || (last != '\n' && n < (ssize_t)sizeof(buf));
		if (n && ((t->c_cc[VEOL] && last == t->c_cc[VEOL]) ||
			  (t->c_cc[VEOL2] && last == t->c_cc[VEOL2])))
			l->eof = true; /* ended by another character, which is data: the same to a
					  reader */
		if (n && bytes_add(&l->data, buf, (size_t)n))
			return -ENOMEM;
	}
	return 0;
}

/* Write to the line discipline and wait until all of it came back as echo. */
static int put_input(int master, const void *data, size_t len, size_t echoes)
{
	struct pollfd p = { .fd = master, .events = POLLIN };
	char buf[4096];

	if (len && write(master, data, len) != (ssize_t)len)
		return -EIO;
	while (echoes) {
		ssize_t n = poll(&p, 1, ECHO_WAIT_MS) == 1 ? read(master, buf, sizeof(buf)) : -1;

		if (n <= 0)
			return -ETIMEDOUT;
		echoes -= (size_t)n < echoes ? (size_t)n : echoes;
	}
	return 0;
}

/* Two characters that the line does not hold: one to end it, one to erase. */
static int pick_ends(const Ckpt__PtyLine *l, unsigned char ends[2])
{
	int n = 0;

	for (unsigned int c = 1; n < 2 && c < 255; c++)
		if (c != '\n' && c != 'x' &&
		    (!l->data.len || !memchr(l->data.data, (int)c, l->data.len)))
			ends[n++] = (unsigned char)c;
	return n == 2 ? 0 : -EILSEQ;
}

static int put_line(int master, int slave, const struct termios2 *t, const Ckpt__PtyLine *l)
{
	unsigned char ends[2], tail[3];
	int rc = pick_ends(l, ends);

	if (!rc)
		rc = set_quiet(slave, t, true, true, ends);
	if (!rc)
		rc = put_input(master, l->data.data, l->data.len, l->data.len);
	if (rc || !l->eof)
		return rc;
	/* The end gives no echo, but what comes behind it does: a letter and its erasure. */
	tail[0] = ends[0];
	tail[1] = 'x';
	tail[2] = ends[1];
	return put_input(master, tail, sizeof(tail), 2);
}

static int put_all(const struct job *j, int slave)
{
	const Ckpt__Pty *m = j->m;
	bool lines = j->termios.c_lflag & ICANON;
	int rc = 0;

	for (size_t i = 0; !rc && i < m->n_lines; i++)
		rc = put_line(j->master, slave, &j->termios, m->lines[i]);
	if (!rc && m->input.len) {
		rc = set_quiet(slave, &j->termios, lines, true, NULL);
		if (!rc)
			rc = put_input(j->master, m->input.data, m->input.len, m->input.len);
	}
	if (!rc)
		rc = set_quiet(slave, &j->termios, lines, false, NULL);
	if (!rc && m->output.len &&
	    write(slave, m->output.data, m->output.len) != (ssize_t)m->output.len)
		rc = -EIO;
	return rc;
}

static int take_all(const struct job *j, int slave)
{
	int rc = read_all(j->master, &j->m->output);

	if (rc || !j->m->has_slave)
		return rc;
	if (j->termios.c_lflag & ICANON)
		rc = take_lines(slave, &j->termios, j->m);
	if (!rc)
		rc = set_quiet(slave, &j->termios, false, false, NULL);
	return rc ? rc : read_all(slave, &j->m->input);
}

/* Around both: no packet mode, no waiting on the master, the settings as they were. */
static int with_slave(const struct job *j, bool take)
{
	int fl = fcntl(j->master, F_GETFL), zero = 0, one = 1, rc;
	auto_fd slave = open_slave(j->master);
	bool packet = j->m->packet;

	if (slave < 0)
		return slave;
	if (fl < 0 || fcntl(j->master, F_SETFL, fl | O_NONBLOCK) ||
	    (packet && ioctl(j->master, TIOCPKT, &zero)))
		return -errno;
	rc = take ? take_all(j, slave) : 0;
	if (!rc || take) {
		int back = put_all(j, slave);

		rc = rc ? rc : back;
	}
	if (ioctl(slave, TCSETS2, &j->termios) && !rc)
		rc = -errno;
	if (packet && ioctl(j->master, TIOCPKT, &one) && !rc)
		rc = -errno;
	if (fcntl(j->master, F_SETFL, fl) && !rc)
		rc = -errno;
	return rc;
}

static int take_and_put(void *arg)
{
	return with_slave(arg, true);
}

int ptyqueue_dump(int master, Ckpt__Pty *m, struct ckpt_err *err)
{
	struct pollfd p = { .fd = master, .events = POLLIN };
	struct job j = { .master = master, .m = m };
	int rc;

	if (m->locked || (!m->has_slave && (poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))))
		return 0;
	memcpy(&j.termios, m->termios.data, sizeof(j.termios));
	rc = guard_run(take_and_put, &j);
	return rc ? ckpt_fail_errno(err, E_FREEZE, rc,
				    "cannot look at the queues of pseudo-terminal %u", m->index)
		  : 0;
}

int ptyqueue_restore(int master, const Ckpt__Pty *m, struct ckpt_err *err)
{
	struct job j = { .master = master, .m = (Ckpt__Pty *)m };
	int rc;

	if (!m->has_slave && !m->slave_left)
		return 0;
	memcpy(&j.termios, m->termios.data, sizeof(j.termios));
	rc = with_slave(&j, false);
	return rc ? ckpt_fail_errno(err, E_RESTORE, rc,
				    "cannot fill the queues of pseudo-terminal %u", m->index)
		  : 0;
}
