// SPDX-License-Identifier: GPL-2.0-only
/* Look-ups in the registry, and packing of kinds' messages. */
#include "kind/kind.h"

#include <stdlib.h>
#include <string.h>

void *kind_msg_new(const ProtobufCMessageDescriptor *desc)
{
	ProtobufCMessage *m = calloc(1, desc->sizeof_message);

	if (m)
		protobuf_c_message_init(desc, m);
	return m;
}

static Ckpt__State *state_new(const char *kind, size_t len)
{
	Ckpt__State *s = kind_msg_new(&ckpt__state__descriptor);

	if (!s)
		return NULL;
	s->kind = strdup(kind);
	s->body.data = malloc(len + 1);
	s->body.len = len;
	if (!s->kind || !s->body.data) {
		protobuf_c_message_free_unpacked(&s->base, NULL);
		return NULL;
	}
	return s;
}

Ckpt__State *kind_state_new(const char *kind, const ProtobufCMessage *msg)
{
	Ckpt__State *s = state_new(kind, msg ? protobuf_c_message_get_packed_size(msg) : 0);

	if (s && msg)
		protobuf_c_message_pack(msg, s->body.data);
	return s;
}

const Ckpt__State *kind_state_find(Ckpt__State *const *v, size_t n, const char *kind)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i]->kind, kind))
			return v[i];
	return NULL;
}

Ckpt__State *kind_state_copy(const Ckpt__State *from)
{
	Ckpt__State *s = state_new(from->kind, from->body.len);

	if (s && from->body.len)
		memcpy(s->body.data, from->body.data, from->body.len);
	return s;
}

void *kind_state_unpack(const Ckpt__State *state, const ProtobufCMessageDescriptor *desc,
			struct ckpt_err *err)
{
	ProtobufCMessage *m =
		protobuf_c_message_unpack(desc, NULL, state->body.len, state->body.data);

	if (!m)
		(void)ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				"a record of kind \"%s\" is malformed", state->kind);
	return m;
}

const struct fd_kind *fd_kind_by_name(const char *name)
{
	for (size_t i = 0; fd_kinds[i]; i++)
		if (!strcmp(fd_kinds[i]->name, name))
			return fd_kinds[i];
	return NULL;
}

const struct vma_kind *vma_kind_by_name(const char *name)
{
	for (size_t i = 0; vma_kinds[i]; i++)
		if (!strcmp(vma_kinds[i]->name, name))
			return vma_kinds[i];
	return NULL;
}

const struct task_kind *task_kind_by_name(const char *name)
{
	for (size_t i = 0; task_kinds[i]; i++)
		if (!strcmp(task_kinds[i]->name, name))
			return task_kinds[i];
	return NULL;
}

const struct fd_kind *fd_kind_match(const struct fd_facts *f)
{
	for (size_t i = 0; fd_kinds[i]; i++)
		if (fd_kinds[i]->match && fd_kinds[i]->match(f))
			return fd_kinds[i];
	return NULL;
}

const struct vma_kind *vma_kind_match(const struct proc_vma *v)
{
	for (size_t i = 0; vma_kinds[i]; i++)
		if (vma_kinds[i]->match(v))
			return vma_kinds[i];
	return NULL;
}

int kind_push(size_t *n, void *array, void *element)
{
	void ***pp = array;
	void **p = *pp;

	/* Grow at powers of two, so that a push costs O(1) without a capacity field. */
	if (!(*n & (*n - 1))) {
		p = reallocarray(p, *n ? *n * 2 : 1, sizeof(void *));
		if (!p)
			return -ENOMEM;
		*pp = p;
	}
	p[(*n)++] = element;
	return 0;
}

int kind_async_io_remedy(struct ckpt_err *err)
{
	return ckpt_remedy(err,
			   "run the program without asynchronous I/O of the kernel: MariaDB and "
			   "MySQL with innodb_use_native_aio=0, PostgreSQL with io_method=worker");
}
