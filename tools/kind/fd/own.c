// SPDX-License-Identifier: GPL-2.0-only
#include "kind/fd/own.h"

#include <fcntl.h>
#include <sys/syscall.h>

struct fd_own fd_own_plan(const Ckpt__Object *obj, const Ckpt__FdTable *table, int fdnum,
			  struct steps *s)
{
	const Ckpt__Fd *first = NULL, *self = NULL;
	struct fd_own own = { .fdnum = fdnum };

	for (size_t i = 0; i < table->n_fds; i++) {
		if (table->fds[i]->object == obj->id && !first)
			first = table->fds[i];
		if (table->fds[i]->fd == (uint32_t)fdnum)
			self = table->fds[i];
	}
	own.cloexec = self && self->cloexec ? O_CLOEXEC : 0;
	own.shared = first && first != self;
	if (own.shared)
		(void)steps_call(s, "share a descriptor", SYS_dup3, first->fd, (uint64_t)fdnum,
				 own.cloexec);
	return own;
}

void fd_own_place(const struct fd_own *own, uint32_t opened, struct steps *s)
{
	(void)steps_add(
		s,
		&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
				      .nr = SYS_dup3,
				      .refs = 1,
				      .arg = { opened, (uint64_t)own->fdnum, own->cloexec } },
		"put a descriptor in place");
	(void)steps_add(
		s,
		&(struct ckpt_step) {
			.op = CKPT_OP_SYSCALL, .nr = SYS_close, .refs = 1, .arg = { opened } },
		"close its first number");
}
