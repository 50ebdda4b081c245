// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pseudo-terminals. Every description of either end refers to a "pty" object, which is the terminal
 * with its settings and queues. A slave whose master is outside the tree is the terminal of the
 * shell that started the program as a job: at restore it becomes the terminal that ckpt runs on.
 * Any other is refused.
 */
#include "kind/fd/pty.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_pty.pb-c.h"
#include "kern/getfd.h"
#include "kind/fd/kinds.h"
#include "kind/fd/ptyqueue.h"

#define SLAVE_MAJOR 136u
#define INDEX_TRIES 4096

/* The kernel's struct winsize; <sys/ioctl.h> has it, <asm/termbits.h> does not clash with that one.
 */
static bool is_master(const struct fd_facts *f)
{
	return f->st.st_rdev == makedev(5, 2);
}

static bool pty_match(const struct fd_facts *f)
{
	unsigned int maj = major(f->st.st_rdev);

	if (!S_ISCHR(f->st.st_mode) || f->flags & O_PATH)
		return false;
	return is_master(f) || f->st.st_rdev == makedev(5, 0) ||
	       (maj >= SLAVE_MAJOR && maj < SLAVE_MAJOR + 8);
}

/* The number of the pseudo-terminal behind either end; -EIO: hung up; -ENOTTY: another terminal. */
static int pty_index(int fd)
{
	unsigned int dev;

	if (ioctl(fd, TIOCGDEV, &dev))
		return -errno;
	if (((dev >> 8) & 0xfff) != SLAVE_MAJOR)
		return -ENOTTY;
	return (int)((dev & 0xff) | ((dev >> 12) & 0xfff00));
}

static Ckpt__Pty *pty_get(const Ckpt__Object *o, struct ckpt_err *err)
{
	return o->state ? kind_state_unpack(o->state, &ckpt__pty__descriptor, err)
			: kind_msg_new(&ckpt__pty__descriptor);
}

/* The terminal of the session the program belongs to, while the leader of that is outside: a
 * shell's job. */
static bool is_own_terminal(struct dump_ctx *d, const struct fd_facts *f, int index,
			    bool *ret_foreground)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	if (proc_stat_read(f->pid, &st, &gone) || dump_tree_has_pid(d, st.session))
		return false;
	*ret_foreground = st.tpgid == st.pgrp;
	return major((dev_t)st.tty_nr) == SLAVE_MAJOR &&
	       (int)(((unsigned int)st.tty_nr & 0xff) |
		     (((unsigned int)st.tty_nr >> 12) & 0xfff00)) == index;
}

static int refuse_outside(const struct fd_facts *f, struct ckpt_err *err)
{
	(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			"fd %d: the master of terminal %s is outside the tree", f->fd, f->link);
	return ckpt_remedy(
		err,
		"dump the process that holds it (sshd, tmux, the terminal program), or leave it "
		"out and hand one over at the restore: --external '%s'",
		f->link);
}

static int pty_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	auto_fd own = f->local < 0 ? fd_take(f->pid, f->fd) : -1;
	int index = own < 0 ? -1 : pty_index(own);
	bool foreground;

	/* Once the tree is frozen pty_dump_late() knows all of it. */
	if (own < 0 || is_master(f) || index == -EIO)
		return 0;
	if (index < 0)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d: %s is no pseudo-terminal",
				 f->fd, f->link);
	if (dump_tree_has_master(d, index) || dump_tree_sends_fds(d) ||
	    is_own_terminal(d, f, index, &foreground))
		return 0;
	return refuse_outside(f, err);
}

static int bytes_set(ProtobufCBinaryData *ret, const void *data, size_t len)
{
	ret->data = malloc(len);
	if (!ret->data)
		return -ENOMEM;
	memcpy(ret->data, data, len);
	ret->len = len;
	return 0;
}

static int pty_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		    struct ckpt_err *err)
{
	Ckpt__FdPty *m = msg;
	Ckpt__Object *o;
	Ckpt__Pty *p;
	bool is_new;
	int rc, index = pty_index(f->local);

	(void)obj;
	m->master = is_master(f);
	m->hung = index == -EIO && !m->master;
	if (m->hung)
		return 0;
	if (index < 0)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d: %s is no pseudo-terminal",
				 f->fd, f->link);
	rc = dump_object_keyed(d, "pty", 0, (uint64_t)index, &o, &is_new, err);
	if (rc)
		return rc;
	m->pty = o->id;
	p = pty_get(o, err);
	if (!p)
		return err->id ? err->code : ckpt_oom(err);
	p->index = (uint32_t)index;
	*(m->master ? &p->has_master : &p->has_slave) = true;
	rc = dump_object_set(o, "pty", &p->base, err);
	ckpt__pty__free_unpacked(p, NULL);
	return rc;
}

/* Everything but the queues, through the master. */
static int settings_dump(struct dump_ctx *d, int fd, Ckpt__Pty *p, struct ckpt_err *err)
{
	struct pollfd pfd = { .fd = fd };
	struct termios2 t;
	struct winsize ws;
	int v, pid;

	if (ioctl(fd, TCGETS2, &t) || ioctl(fd, TIOCGWINSZ, &ws))
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "cannot read the settings of pseudo-terminal %u", p->index);
	free(p->termios.data);
	free(p->winsize.data);
	if (bytes_set(&p->termios, &t, sizeof(t)) || bytes_set(&p->winsize, &ws, sizeof(ws)))
		return ckpt_oom(err);
	p->locked = !ioctl(fd, TIOCGPTLCK, &v) && v;
	p->packet = !ioctl(fd, TIOCGPKT, &v) && v;
	p->exclusive = !ioctl(fd, TIOCGEXCL, &v) && v;
	p->slave_left = poll(&pfd, 1, 0) > 0 && pfd.revents & POLLHUP;
	if (!ioctl(fd, TIOCGSID, &pid) && pid > 0)
		p->session = dump_pid_image(d, pid);
	if (!ioctl(fd, TIOCGPGRP, &pid) && pid > 0)
		p->group = dump_pid_image(d, pid);
	return 0;
}

static int own_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__FdPty *m, uint32_t index,
		    struct ckpt_err *err)
{
	struct termios2 t;
	bool foreground = false;

	if (!is_own_terminal(d, f, (int)index, &foreground))
		return refuse_outside(f, err);
	m->own = true;
	m->foreground = foreground;
	if (ioctl(f->local, TCGETS2, &t))
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "cannot read the settings of the terminal");
	return bytes_set(&m->termios, &t, sizeof(t)) ? ckpt_oom(err) : 0;
}

static int pty_dump_late(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			 struct ckpt_err *err)
{
	Ckpt__FdPty *m = msg;
	Ckpt__Object *o;
	Ckpt__Pty *p;
	bool is_new;
	int index = pty_index(f->local), rc;

	(void)obj;
	if (m->hung)
		return 0;
	rc = dump_object_keyed(d, "pty", 0, (uint64_t)index, &o, &is_new, err);
	if (rc)
		return rc;
	p = pty_get(o, err);
	if (!p)
		return err->code;
	if (!p->has_master) {
		rc = own_dump(d, f, m, p->index, err);
	} else if (m->master) {
		rc = settings_dump(d, f->local, p, err);
		if (!rc)
			rc = ptyqueue_dump(f->local, p, err);
		if (!rc)
			rc = dump_object_set(o, "pty", &p->base, err);
	}
	ckpt__pty__free_unpacked(p, NULL);
	return rc;
}

/* ---- restore -------------------------------------------------------------------------------- */

/* A new pseudo-terminal, unlocked, with number @want if that is free. */
static int master_open(int want, int *ret_fd)
{
	auto_free int *held = calloc(INDEX_TRIES, sizeof(int));
	int n = 0, fd = -1, index = -1, zero = 0, rc = 0;

	if (!held)
		return -ENOMEM;
	/* The kernel gives the lowest free number. */
	do {
		fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, TIOCGPTN, &index) || ioctl(fd, TIOCSPTLCK, &zero))
			rc = -errno;
		else if (index < want && n < INDEX_TRIES)
			held[n++] = fd;
		else
			break;
	} while (!rc);
	while (n)
		(void)close(held[--n]);
	if (rc && fd >= 0)
		(void)close(fd);
	*ret_fd = fd;
	return rc;
}

static int slave_open(int master, int flags)
{
	return fd_private(ioctl(master, TIOCGPTPEER,
				(flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY));
}

/* The terminal that ckpt itself runs on. */
static int own_restore(const Ckpt__Object *obj, int *ret_fd, struct ckpt_err *err)
{
	int flags = ((int)obj->flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY | O_CLOEXEC,
	    fd = -1;
	char path[64], name[256];
	pid_t sid;

	for (int i = 0; fd < 0 && i < 3; i++) {
		ssize_t n;

		if (ioctl(i, TIOCGSID, &sid) || sid != getsid(0))
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		n = readlink(path, name, sizeof(name) - 1);
		name[n > 0 ? n : 0] = 0;
		fd = open(name, flags);
	}
	if (fd < 0)
		fd = open("/dev/tty", flags);
	if (fd < 0) {
		(void)ckpt_fail_errno(
			err, E_RESTORE, -errno,
			"the program is the job of a terminal, and ckpt has none here");
		return ckpt_remedy(
			err,
			"run ckpt restore on a terminal, or: script -c 'ckpt restore …' /dev/null");
	}
	*ret_fd = fd;
	return 0;
}

static int pty_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int *ret_fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdPty *m = msg;
	int master, fd, rc;

	if (m->own)
		return own_restore(obj, ret_fd, err);
	if (m->hung) {
		rc = master_open(0, &master);
		if (rc)
			return ckpt_fail_errno(err, E_RESTORE, rc, "cannot make a pseudo-terminal");
		fd = slave_open(master, (int)obj->flags);
		(void)close(master);
	} else {
		rc = restore_object_fd(r, m->pty, &master, err);
		if (rc)
			return rc;
		fd = m->master ? fcntl(master, F_DUPFD_CLOEXEC, 3)
			       : slave_open(master, (int)obj->flags);
	}
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot open an end of a pseudo-terminal");
	*ret_fd = fd;
	return 0;
}

/* The real terminal is set and given away only for a program that had it. */
static int pty_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
		      struct ckpt_err *err)
{
	const Ckpt__FdPty *m = msg;
	pid_t group = getpgid(restore_root(r));

	(void)obj;
	if (!m->own || !m->foreground || restore_opts(r)->detach)
		return 0;
	if (m->termios.len != sizeof(struct termios2))
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "terminal settings of %zu bytes",
				 m->termios.len);
	if (ioctl(fd, TCSETS2, m->termios.data))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set the terminal");
	if (group > 0 && ioctl(fd, TIOCSPGRP, &group))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot make the program the foreground job");
	return 0;
}

const struct fd_kind fd_kind_pty_end = {
	.name = "pty-end",
	.desc = &ckpt__fd_pty__descriptor,
	.match = pty_match,
	.check = pty_check,
	.dump = pty_dump,
	.dump_late = pty_dump_late,
	.restore = pty_restore,
	.finish = pty_finish,
};

/* The object's descriptor is the master; its spare one a slave, for the session it controls. */
static int object_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			  int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__Pty *m = msg;
	auto_fd fd = -1;
	int index = 0, slave, rc;

	if (!m->has_master) { /* only descriptions of our own terminal refer to it */
		*ret_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		return *ret_fd < 0
			       ? ckpt_fail_errno(err, E_RESTORE, -errno, "cannot open /dev/null")
			       : 0;
	}
	if (m->termios.len != sizeof(struct termios2) || m->winsize.len != sizeof(struct winsize))
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "settings of pseudo-terminal %u",
				 m->index);
	rc = master_open((int)m->index, &fd);
	if (rc || ioctl(fd, TIOCGPTN, &index))
		return ckpt_fail_errno(err, E_RESTORE, rc ? rc : -errno,
				       "cannot make a pseudo-terminal");
	if (index != (int)m->index)
		ui_note(restore_ui(r), 1, "terminal /dev/pts/%u is taken: it becomes /dev/pts/%d",
			m->index, index);
	if (ioctl(fd, TCSETS2, m->termios.data) || ioctl(fd, TIOCSWINSZ, m->winsize.data))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set up pseudo-terminal %u",
				       m->index);
	if (m->session > 0) {
		slave = slave_open(fd, O_RDWR);
		rc = slave < 0 ? -errno : restore_object_keep(r, obj->id, slave);
		if (rc)
			return ckpt_fail_errno(err, E_RESTORE, rc, "cannot open pseudo-terminal %u",
					       m->index);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int object_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
			 struct ckpt_err *err)
{
	const Ckpt__Pty *m = msg;
	int one = 1, *slave = restore_object_spare(r, obj->id), rc;

	if (!m->has_master)
		return 0;
	if (*slave >= 0)
		(void)close(*slave);
	*slave = -1;
	rc = ptyqueue_restore(fd, m, err);
	if (rc)
		return rc;
	if ((m->packet && ioctl(fd, TIOCPKT, &one)) || (m->exclusive && ioctl(fd, TIOCEXCL)) ||
	    (m->locked && ioctl(fd, TIOCSPTLCK, &one)))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set up pseudo-terminal %u",
				       m->index);
	return 0;
}

/* Never matches a descriptor: objects of this kind are made by pty_dump(). */
const struct fd_kind fd_kind_pty = {
	.name = "pty",
	.desc = &ckpt__pty__descriptor,
	.restore = object_restore,
	.finish = object_finish,
};

/* The terminal that session @sid controls; NULL when none does. */
static const Ckpt__Pty *pty_of_session(struct restore_ctx *r, int sid, int *ret_slave)
{
	struct ckpt_err bad = { 0 };
	const Ckpt__Object *o;

	for (uint32_t id = 1; (o = restore_object(r, id)); id++) {
		const Ckpt__Pty *m;

		if (strcmp(o->state->kind, "pty") != 0)
			continue;
		m = restore_object_msg(r, id, &bad);
		*ret_slave = *restore_object_spare(r, id);
		if (m && m->session == sid && *ret_slave >= 0)
			return m;
	}
	return NULL;
}

void pty_plan_session(struct restore_ctx *r, const Ckpt__Task *leader, struct steps *s)
{
	int slave;

	if (pty_of_session(r, leader->pid, &slave))
		(void)steps_call(s, "take its controlling terminal", SYS_ioctl, (uint64_t)slave,
				 TIOCSCTTY, 0);
}

void pty_plan_group(struct restore_ctx *r, const Ckpt__Task *leader, struct steps *s)
{
	int slave;
	const Ckpt__Pty *m = pty_of_session(r, leader->pid, &slave);

	if (m && m->group > 0)
		/* A group that has ended stays the foreground group; nobody can be put into it
		 * again. */
		(void)steps_try(s, "set the foreground group", SYS_ioctl, (uint64_t)slave,
				TIOCSPGRP, steps_data(s, &m->group, sizeof(m->group)));
}
