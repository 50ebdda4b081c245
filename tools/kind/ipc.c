// SPDX-License-Identifier: GPL-2.0-only
/*
 * System V semaphores and message queues. They belong to nobody but their IPC namespace, so they
 * are saved when the tree brings one. Messages are looked at with MSG_COPY and stay where they are.
 * Times, the last process and undo values of semaphores are not kept: the kernel does not give them
 * or does not take them.
 */
#include "kind/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kern/guard.h"
#include "kind/kind.h"

#define MESSAGES_MAX (512u * 1024) /* bytes in all; the inventory must hold them */

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

/* Call @one for each line of /proc/sysvipc/@name. */
static int for_each(const char *name, int (*one)(int id, void *arg, struct ckpt_err *err),
		    void *arg, struct ckpt_err *err)
{
	auto_free char *text = NULL;
	char path[64], *save = NULL;
	int rc = 0;

	(void)snprintf(path, sizeof(path), "/proc/sysvipc/%s", name);
	if (io_read_file(AT_FDCWD, path, &text) < 0)
		return 0;                  /* a kernel without them */
	(void)strtok_r(text, "\n", &save); /* its headings */
	for (char *l = strtok_r(NULL, "\n", &save); !rc && l; l = strtok_r(NULL, "\n", &save)) {
		int key, id;

		if (sscanf(l, "%d %d", &key, &id) == 2)
			rc = one(id, arg, err);
	}
	return rc;
}

static int check_queue(int id, void *arg, struct ckpt_err *err)
{
	uint64_t *bytes = arg;
	struct msqid_ds ds;

	if (msgctl(id, IPC_STAT, &ds))
		return 0; /* gone meanwhile */
	*bytes += ds.__msg_cbytes + ds.msg_qnum * 32;
	if (*bytes > MESSAGES_MAX)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "the System V message queues hold more than %u KiB, %d last",
				 MESSAGES_MAX / 1024, id);
	/* Without CONFIG_CHECKPOINT_RESTORE nobody can look at a message and leave it. */
	if (ds.msg_qnum &&
	    msgrcv(id, &(long[2]) { 0 }, sizeof(long), 0, MSG_COPY | IPC_NOWAIT | MSG_NOERROR) <
		    0 &&
	    (errno == ENOSYS || errno == EINVAL))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "this kernel does not show what is in the message queue %d", id);
	return 0;
}

int ipc_check(struct ckpt_err *err)
{
	uint64_t bytes = 0;

	return for_each("msg", check_queue, &bytes, err);
}

/* ---- semaphores --------------------------------------------------------------------------- */

static int perm_dump(Ckpt__SysvPerm **ret, int id, const struct ipc_perm *p)
{
	Ckpt__SysvPerm *m = kind_msg_new(&ckpt__sysv_perm__descriptor);

	if (!m)
		return -ENOMEM;
	m->id = id;
	m->key = p->__key;
	m->uid = p->uid;
	m->gid = p->gid;
	m->cuid = p->cuid;
	m->cgid = p->cgid;
	m->mode = p->mode & 0777;
	*ret = m;
	return 0;
}

/* Make the next object of /proc/sys/kernel/@next, with @make, for its maker. Its number or -errno.
 */
static int perm_make(const Ckpt__SysvPerm *m, const char *next,
		     int (*make)(const void *arg, int key, int flags), const void *arg)
{
	char path[64], text[16];
	auto_fd fd = -1;
	int id, rc;

	(void)snprintf(path, sizeof(path), "/proc/sys/kernel/%s", next);
	(void)snprintf(text, sizeof(text), "%d", m->id);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	rc = guard_ids(m->cuid, m->cgid);
	if (rc)
		return rc;
	id = make(arg, m->key, (int)(m->mode & 0777) | IPC_CREAT | IPC_EXCL);
	if (id < 0)
		id = -errno;
	rc = guard_ids((uid_t)-1, (gid_t)-1);
	if (rc || id < 0)
		return rc ? rc : id;
	return id == m->id ? id : -EEXIST;
}

static int dump_sem(int id, void *arg, struct ckpt_err *err)
{
	Ckpt__Namespaces *ns = arg;
	Ckpt__SysvSem *m = kind_msg_new(&ckpt__sysv_sem__descriptor);
	auto_free unsigned short *values = NULL;
	struct semid_ds ds;

	if (!m || kind_push(&ns->n_sems, &ns->sems, m))
		return ckpt_oom(err);
	if (semctl(id, 0, IPC_STAT, (union semun) { .buf = &ds }))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot look at the semaphores %d",
				       id);
	values = calloc(ds.sem_nsems + 1, sizeof(*values));
	m->values = calloc(ds.sem_nsems + 1, sizeof(*m->values));
	if (!values || !m->values || perm_dump(&m->perm, id, &ds.sem_perm))
		return ckpt_oom(err);
	if (semctl(id, 0, GETALL, (union semun) { .array = values }))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot read the semaphores %d", id);
	m->n_values = ds.sem_nsems;
	for (size_t i = 0; i < m->n_values; i++)
		m->values[i] = values[i];
	return 0;
}

static int make_sem(const void *arg, int key, int flags)
{
	const Ckpt__SysvSem *m = arg;

	return semget(key, (int)m->n_values, flags);
}

static int restore_sem(const Ckpt__SysvSem *m, struct ckpt_err *err)
{
	auto_free unsigned short *values = calloc(m->n_values + 1, sizeof(*values));
	struct semid_ds ds = { 0 };
	int id;

	if (!values)
		return ckpt_oom(err);
	if (!m->perm || !m->n_values || m->n_values > INT_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a broken set of semaphores");
	for (size_t i = 0; i < m->n_values; i++)
		values[i] = (unsigned short)m->values[i];
	id = perm_make(m->perm, "sem_next_id", make_sem, m);
	ds.sem_perm.uid = m->perm->uid;
	ds.sem_perm.gid = m->perm->gid;
	ds.sem_perm.mode = (unsigned short)(m->perm->mode & 0777);
	if (id >= 0 && (semctl(id, 0, SETALL, (union semun) { .array = values }) ||
			semctl(id, 0, IPC_SET, (union semun) { .buf = &ds })))
		id = -errno;
	return id < 0 ? ckpt_fail_errno(err, E_RESTORE, id, "cannot make the semaphores %d",
					m->perm->id)
		      : 0;
}

/* ---- message queues ----------------------------------------------------------------------- */

struct message {
	long type;
	char text[];
};

static int dump_message(Ckpt__SysvMsg *m, int id, long at, struct message *buf, size_t room,
			struct ckpt_err *err)
{
	ssize_t n = msgrcv(id, buf, room, at, MSG_COPY | IPC_NOWAIT);
	Ckpt__SysvMessage *one;

	if (n < 0)
		return ckpt_fail_errno(err, E_FREEZE, -errno,
				       "cannot look at a message of the queue %d", id);
	one = kind_msg_new(&ckpt__sysv_message__descriptor);
	if (!one || kind_push(&m->n_messages, &m->messages, one))
		return ckpt_oom(err);
	one->type = buf->type;
	one->text.data = malloc((size_t)n + 1);
	if (!one->text.data)
		return ckpt_oom(err);
	memcpy(one->text.data, buf->text, (size_t)n);
	one->text.len = (size_t)n;
	return 0;
}

static int dump_queue(int id, void *arg, struct ckpt_err *err)
{
	Ckpt__Namespaces *ns = arg;
	Ckpt__SysvMsg *m = kind_msg_new(&ckpt__sysv_msg__descriptor);
	auto_free struct message *buf = NULL;
	struct msqid_ds ds;
	int rc = 0;

	if (!m || kind_push(&ns->n_queues, &ns->queues, m))
		return ckpt_oom(err);
	if (msgctl(id, IPC_STAT, &ds))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot look at the message queue %d",
				       id);
	m->limit = ds.msg_qbytes;
	buf = malloc(sizeof(*buf) + ds.__msg_cbytes + 1);
	if (!buf || perm_dump(&m->perm, id, &ds.msg_perm))
		return ckpt_oom(err);
	for (size_t i = 0; !rc && i < ds.msg_qnum; i++)
		rc = dump_message(m, id, (long)i, buf, ds.__msg_cbytes, err);
	return rc;
}

static int make_queue(const void *arg, int key, int flags)
{
	(void)arg;
	return msgget(key, flags);
}

static int restore_message(int id, const Ckpt__SysvMessage *one)
{
	auto_free struct message *buf = malloc(sizeof(*buf) + one->text.len + 1);

	if (!buf)
		return -ENOMEM;
	buf->type = one->type;
	if (one->text.len)
		memcpy(buf->text, one->text.data, one->text.len);
	return msgsnd(id, buf, one->text.len, IPC_NOWAIT) ? -errno : 0;
}

static int restore_queue(const Ckpt__SysvMsg *m, struct ckpt_err *err)
{
	struct msqid_ds ds;
	int id, rc;

	if (!m->perm)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a broken message queue");
	id = perm_make(m->perm, "msg_next_id", make_queue, NULL);
	rc = id < 0 ? id : msgctl(id, IPC_STAT, &ds) ? -errno : 0;
	ds.msg_perm.uid = m->perm->uid;
	ds.msg_perm.gid = m->perm->gid;
	ds.msg_perm.mode = (unsigned short)(m->perm->mode & 0777);
	/* The queue may hold more than its limit allows since that was set. */
	if (!rc && m->limit > ds.msg_qbytes) {
		ds.msg_qbytes = m->limit;
		rc = msgctl(id, IPC_SET, &ds) ? -errno : 0;
	}
	for (size_t i = 0; !rc && i < m->n_messages; i++)
		rc = restore_message(id, m->messages[i]);
	ds.msg_qbytes = m->limit;
	if (!rc && msgctl(id, IPC_SET, &ds))
		rc = -errno;
	return rc ? ckpt_fail_errno(err, E_RESTORE, rc, "cannot make the message queue %d",
				    m->perm->id)
		  : 0;
}

/* ---- all of it ---------------------------------------------------------------------------- */

int ipc_dump(Ckpt__Namespaces *ns, struct ckpt_err *err)
{
	int rc = ipc_check(err);

	if (!rc)
		rc = for_each("sem", dump_sem, ns, err);
	return rc ? rc : for_each("msg", dump_queue, ns, err);
}

void ipc_free(Ckpt__Namespaces *ns)
{
	for (size_t i = 0; i < ns->n_sems; i++)
		ckpt__sysv_sem__free_unpacked(ns->sems[i], NULL);
	for (size_t i = 0; i < ns->n_queues; i++)
		ckpt__sysv_msg__free_unpacked(ns->queues[i], NULL);
	free(ns->sems);
	free(ns->queues);
	ns->n_sems = ns->n_queues = 0;
	ns->sems = NULL;
	ns->queues = NULL;
}

int ipc_restore(const Ckpt__Namespaces *ns, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < ns->n_sems; i++)
		rc = restore_sem(ns->sems[i], err);
	for (size_t i = 0; !rc && i < ns->n_queues; i++)
		rc = restore_queue(ns->queues[i], err);
	return rc;
}
