// SPDX-License-Identifier: GPL-2.0-only
/* The tools' client of the module (tools/kern/kmod.c), against the module. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/kmod.h"
#include "vm.h"

static void setup(struct env *e)
{
	region(e, 4096, 0);
	fill(e);
}

/* Every other page: as many runs as there can be, more than one message holds. */
static void step(struct env *e, int nr)
{
	for (size_t i = nr; i < e->pages; i += 2)
		touch(e, i);
}

static const struct path path = { "client", setup, step, 0, 0, 0 };

struct seen {
	uintptr_t base;
	uint8_t page[4096];
	int calls;
	struct kmod_result result;
	int stop_at;
};

static int see(const struct kmod_result *result, const struct ckpt_run *runs, size_t n, void *arg,
	       struct ckpt_err *err)
{
	struct seen *s = arg;

	(void)err;
	s->result = *result;
	if (++s->calls == s->stop_at)
		return -ECANCELED;
	for (size_t i = 0; i < n; i++)
		for (uint32_t p = 0; p < runs[i].pages; p++) {
			uintptr_t a = runs[i].start + p * PAGE;

			if (a >= s->base && a < s->base + 4096 * PAGE)
				s->page[(a - s->base) / PAGE]++;
		}
	return 0;
}

static void client(const void *unused)
{
	struct ckpt_err err = {};
	struct kmod *k, *other;
	struct kmod_event event;
	struct seen *s = calloc(1, sizeof(*s));
	uint32_t track, again;
	struct target t;
	int ret;

	(void)unused;
	target_start(&t, &path);
	CHECK(kmod_present());
	if (kmod_open(true, 64, &k, &err))
		FAIL("kmod_open: %s", err.msg);
	CHECK(kmod_features(k) & CKPT_FEATURE_TRACK && kmod_session(k));
	CHECK(!kmod_attach(k, t.pid, &track, &err) && !kmod_attach(k, t.pid, &again, &err) && track == again);
	CHECK(!kmod_arm(k, 0, &err));
	CHECK(kmod_event_fd(k) >= 0 && kmod_event(k, &event, &err) == 0);

	s->base = t.sh->base;
	target_step(&t, 1);
	CHECK(!kmod_collect(k, 0, true, see, s, &err));
	CHECK(s->result.pid == t.pid && s->result.epoch == 2 && s->calls > 1);
	for (size_t i = 0; i < 4096; i++)
		CHECK(s->page[i] == (i & 1));

	/* What is reported can be read as it was. */
	struct kmod_snapshot snap = { .fd = -1 };
	static uint64_t page[512];

	target_step(&t, 1);
	memset(s->page, 0, sizeof(s->page));
	CHECK(!kmod_collect_flags(k, track, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, see, s, &err));
	CHECK(s->result.flags & CKPT_RESULT_SNAPSHOT && s->page[4095]);
	if (kmod_snapshot(k, track, &snap, &err))
		FAIL("kmod_snapshot: %s", err.msg);
	CHECK(snap.pages >= 2048 && snap.pool == 64);
	CHECK(pread(snap.fd, page, PAGE, t.sh->base + 4095 * PAGE) == PAGE);
	CHECK(page[t.sh->stamp * 7 % 512] == t.sh->stamp);
	close(snap.fd);
	CHECK(kmod_snapshot(k, track, &snap, &err) == -ENOENT && err.id == E_TRACK);
	ckpt_err_clear(&err);

	/* The callback's refusal is the answer, and the session goes on. */
	target_step(&t, 0);
	s->calls = 0;
	s->stop_at = 1;
	CHECK(kmod_collect(k, track, false, see, s, &err) == -ECANCELED);
	s->stop_at = 0;
	memset(s->page, 0, sizeof(s->page));
	CHECK(!kmod_collect(k, track, true, see, s, &err));
	for (size_t i = 0; i < 4096; i++)
		CHECK(s->page[i] == !(i & 1));

	/* Errors name the object and the cause. */
	ret = kmod_attach(k, 999999, &again, &err);
	if (ret != -ESRCH || err.id != E_NO_SUCH_PID)
		FAIL("attach to no process: %d %s: %s", ret, ckpt_err_name(err.id), err.msg);
	CHECK(strstr(err.msg, "process 999999") && strstr(err.msg, "no process"));
	ckpt_err_clear(&err);
	CHECK(!kmod_open(false, 0, &other, &err));
	CHECK(kmod_attach(other, t.pid, &again, &err) == -EBUSY && err.id == E_ALREADY_TRACED);
	ckpt_err_clear(&err);
	CHECK(kmod_collect(k, 4711, false, see, s, &err) == -ENOENT && err.id == E_TRACK);
	ckpt_err_clear(&err);
	kmod_close(other);

	target_stop(&t);
	struct pollfd p = { .fd = kmod_event_fd(k), .events = POLLIN };
	do
		CHECK(poll(&p, 1, patience_seconds() * 1000) == 1);
	while (kmod_event(k, &event, &err) == 0);
	CHECK(event.type == CKPT_EVENT_GONE && event.track == track);
	CHECK(!kmod_collect(k, 0, true, see, s, &err) && s->result.flags & CKPT_RESULT_GONE);
	CHECK(!kmod_detach(k, 0, &err));
	kmod_close(k);
}

/* ---- one session, several processes ----------------------------------------------------- */

static void fd_send(int sock, int fd)
{
	char c = 0;
	struct iovec iov = { &c, 1 };
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			    .msg_controllen = sizeof(u.buf) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	CHECK(sendmsg(sock, &m, 0) == 1);
}

static int fd_receive(int sock)
{
	char c;
	struct iovec iov = { &c, 1 };
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			    .msg_controllen = sizeof(u.buf) };
	int fd;

	CHECK(recvmsg(sock, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* "dump": is given the keeper's descriptor, collects, and goes away. */
static void second_holder(int sock, const struct target *t, bool last)
{
	struct seen *s = calloc(1, sizeof(*s));
	struct ckpt_err err = {};
	struct kmod *k;
	uint32_t track;

	s->base = t->sh->base;
	if (kmod_adopt(fd_receive(sock), &k, &err))
		FAIL("kmod_adopt: %s", err.msg);
	CHECK(kmod_features(k) & CKPT_FEATURE_TRACK && kmod_session(k));
	if (kmod_attach(k, t->pid, &track, &err) || kmod_collect(k, track, true, see, s, &err))
		FAIL("with an adopted session: %s", err.msg);
	for (size_t i = 0; i < 4096; i++)
		CHECK(s->page[i] == (i & 1));
	if (last) {
		/* The keeper is gone; the session is not. */
		char c;

		CHECK(write(sock, "", 1) == 1 && read(sock, &c, 1) == 0);
		memset(s->page, 0, sizeof(s->page));
		if (kmod_collect(k, track, true, see, s, &err))
			FAIL("as the last holder: %s", err.msg);
		for (size_t i = 0; i < 4096; i++)
			CHECK(s->page[i] == !(i & 1));
	}
	kmod_close(k);
	_exit(0);
}

static void handed_over(const void *unused)
{
	struct seen *s = calloc(1, sizeof(*s));
	struct ckpt_err err = {};
	struct kmod *k, *other;
	struct target t;
	uint32_t track;
	struct nl raw;
	int sock[2][2];
	pid_t pid[2];

	(void)unused;
	target_start(&t, &path);
	for (int i = 0; i < 2; i++) {
		SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock[i]));
		pid[i] = SYS(fork());
		if (!pid[i]) {
			close(sock[i][1]);
			second_holder(sock[i][0], &t, i == 1);
		}
		close(sock[i][0]);
	}
	CHECK(!kmod_open(false, 0, &k, &err) && !kmod_attach(k, t.pid, &track, &err));
	CHECK(!kmod_arm(k, 0, &err));
	s->base = t.sh->base;
	for (int i = 0; i < 2; i++) {
		struct vnl_msg m;
		int status;
		char c;

		target_step(&t, 1);
		/* Left unread: the next holder must not take it for his answers. */
		CHECK(!vnl_open(&raw));
		vnl_close(&raw);
		vnl_begin(&raw, &m, CKPT_CMD_STATUS, NLM_F_DUMP);
		((struct nlmsghdr *)m.buf)->nlmsg_len = m.len;
		CHECK(send(kmod_fd(k), m.buf, m.len, 0) > 0);
		fd_send(sock[i][1], kmod_fd(k));
		if (i == 1) {
			CHECK(read(sock[i][1], &c, 1) == 1);
			target_step(&t, 0);
			kmod_close(k);
			close(sock[i][1]);
		}
		SYS(waitpid(pid[i], &status, 0));
		if (status)
			FAIL("holder %d failed", i);
		if (i == 0) {
			target_step(&t, 0);
			CHECK(!kmod_collect(k, track, true, see, s, &err));
			for (size_t p = 0; p < 4096; p++)
				CHECK(s->page[p] == !(p & 1));
		}
	}
	/* The last holder is gone, and with him the session. */
	CHECK(!kmod_open(false, 0, &other, &err) && !kmod_attach(other, t.pid, &track, &err));
	kmod_close(other);
	/* A descriptor that is no session's. */
	CHECK(kmod_adopt(t.cmd, &other, &err) < 0 && err.id == E_KERNEL);
	ckpt_err_clear(&err);
	target_stop(&t);
}

const struct test client_tests[] = {
	{ "client/session", client, NULL, 0 },
	{ "client/handed-over", handed_over, NULL, 0 },
	{}
};
