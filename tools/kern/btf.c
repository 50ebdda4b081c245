// SPDX-License-Identifier: GPL-2.0-only
#include "kern/btf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"
#define BTF_MAX (64u << 20)
#define READ_BYTES (64u << 10) /* of an iterator at once, at least */

/* Bytes behind a struct btf_type, or -1: a kind that is not known. */
static int64_t btf_tail(const struct btf_type *t)
{
	static const struct {
		uint8_t once, each;
	} tails[] = {
		[BTF_KIND_INT] = { .once = 4 },
		[BTF_KIND_ARRAY] = { .once = sizeof(struct btf_array) },
		[BTF_KIND_STRUCT] = { .each = sizeof(struct btf_member) },
		[BTF_KIND_UNION] = { .each = sizeof(struct btf_member) },
		[BTF_KIND_ENUM] = { .each = sizeof(struct btf_enum) },
		[BTF_KIND_FUNC_PROTO] = { .each = sizeof(struct btf_param) },
		[BTF_KIND_VAR] = { .once = sizeof(struct btf_var) },
		[BTF_KIND_DATASEC] = { .each = sizeof(struct btf_var_secinfo) },
		[BTF_KIND_DECL_TAG] = { .once = sizeof(struct btf_decl_tag) },
		[BTF_KIND_ENUM64] = { .each = 12 },
	};
	uint32_t kind = BTF_INFO_KIND(t->info);

	if (kind > BTF_KIND_ENUM64)
		return -1;
	return kind < ARRAY_SIZE(tails)
		       ? tails[kind].once + (int64_t)tails[kind].each * BTF_INFO_VLEN(t->info)
		       : 0;
}

static const char *btf_name(const struct btf *b, uint32_t off)
{
	return off < b->strings_len ? b->strings + off : "";
}

static int btf_index(struct btf *b, const char *at, const char *end)
{
	const struct btf_type **slot = vec_push(&b->types);

	if (slot)
		*slot = NULL;
	while (slot && end - at >= (ptrdiff_t)sizeof(struct btf_type)) {
		const struct btf_type *t = (const struct btf_type *)(const void *)at;
		int64_t tail = btf_tail(t);

		if (tail < 0 || tail > end - at - (ptrdiff_t)sizeof(*t))
			return -EPROTO;
		slot = vec_push(&b->types);
		if (slot)
			*slot = t;
		at += sizeof(*t) + (size_t)tail;
	}
	return slot ? 0 : -ENOMEM;
}

void btf_free(struct btf *b)
{
	vec_free(&b->types);
	if (b->mapped)
		(void)munmap(b->data, b->mapped);
	else
		free(b->data);
	*b = (struct btf) { 0 };
}

/* Since Linux 6.16 it can be mapped; a read gives a page at a time. Its bytes or -errno. */
static ssize_t btf_get(struct btf *b)
{
	auto_fd fd = open(BTF_PATH, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *map;

	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && st.st_size > 0) {
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map != MAP_FAILED) {
			b->data = map;
			b->mapped = (size_t)st.st_size;
			return st.st_size;
		}
	}
	return io_read_file(AT_FDCWD, BTF_PATH, &b->data);
}

int btf_load(struct btf *b)
{
	const struct btf_header *h;
	uint64_t types, strings;
	ssize_t len;

	if (b->types.n)
		return 0;
	len = btf_get(b);
	if (len < 0)
		return (int)len;
	h = (const struct btf_header *)(const void *)b->data;
	if ((size_t)len < sizeof(*h) || len > (ssize_t)BTF_MAX || h->magic != BTF_MAGIC)
		return -EPROTO;
	types = (uint64_t)h->hdr_len + h->type_off;
	strings = (uint64_t)h->hdr_len + h->str_off;
	if (types + h->type_len > (uint64_t)len || strings + h->str_len > (uint64_t)len ||
	    !h->str_len || b->data[strings + h->str_len - 1])
		return -EPROTO;
	b->strings = b->data + strings;
	b->strings_len = h->str_len;
	return btf_index(b, b->data + types, b->data + types + h->type_len);
}

uint32_t btf_find(const struct btf *b, uint32_t kind, const char *name)
{
	for (size_t i = 1; i < b->types.n; i++)
		if (BTF_INFO_KIND(b->types.v[i]->info) == kind &&
		    !strcmp(btf_name(b, b->types.v[i]->name_off), name))
			return (uint32_t)i;
	return 0;
}

uint32_t btf_struct(const struct btf *b, const char *name)
{
	return btf_find(b, BTF_KIND_STRUCT, name);
}

static int member_offset(const struct btf *b, uint32_t id, const char *name, unsigned int depth)
{
	const struct btf_type *t = id && id < b->types.n ? b->types.v[id] : NULL;
	const struct btf_member *m = (const struct btf_member *)(const void *)(t + 1);
	uint32_t kind = t ? BTF_INFO_KIND(t->info) : 0;

	if (depth > 4 || (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION))
		return -1;
	for (uint32_t i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		uint32_t bits =
			BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset;
		int in;

		if (!strcmp(btf_name(b, m[i].name_off), name))
			return (int)(bits / 8);
		if (*btf_name(b, m[i].name_off))
			continue;
		in = member_offset(b, m[i].type, name, depth + 1);
		if (in >= 0)
			return (int)(bits / 8) + in;
	}
	return -1;
}

int btf_offset(const struct btf *b, uint32_t id, const char *name)
{
	return member_offset(b, id, name, 0);
}

#define TYPES_DEEP 16

/* Behind typedefs and qualifiers; NULL: nothing that has a size. */
static const struct btf_type *plain_type(const struct btf *b, uint32_t *id)
{
	for (int i = 0; i < TYPES_DEEP && *id && *id < b->types.n; i++) {
		const struct btf_type *t = b->types.v[*id];
		uint32_t kind = BTF_INFO_KIND(t->info);

		if (kind != BTF_KIND_TYPEDEF && kind != BTF_KIND_CONST &&
		    kind != BTF_KIND_VOLATILE && kind != BTF_KIND_RESTRICT &&
		    kind != BTF_KIND_TYPE_TAG)
			return t;
		*id = t->type;
	}
	return NULL;
}

int btf_tracepoint_arg(const struct btf *b, const char *tracepoint, const char *name)
{
	char of[96];
	uint32_t id;
	const struct btf_type *t;
	const struct btf_param *p;

	/* What calls all that is attached; it has names for its arguments. */
	(void)snprintf(of, sizeof(of), "__traceiter_%s", tracepoint);
	id = btf_find(b, BTF_KIND_FUNC, of);
	id = id ? b->types.v[id]->type : 0;
	t = plain_type(b, &id);
	if (!t || BTF_INFO_KIND(t->info) != BTF_KIND_FUNC_PROTO)
		return -1;
	p = (const struct btf_param *)(const void *)(t + 1);
	/* The first is the tracepoint's own. */
	for (uint32_t i = 1; i < BTF_INFO_VLEN(t->info); i++)
		if (!strcmp(btf_name(b, p[i].name_off), name))
			return (int)i - 1;
	return -1;
}

static uint32_t type_bytes(const struct btf *b, uint32_t id, int depth)
{
	const struct btf_type *t = plain_type(b, &id);
	const struct btf_array *a = (const struct btf_array *)(const void *)(t + 1);
	uint32_t kind = t ? BTF_INFO_KIND(t->info) : 0;

	if (!kind || depth > TYPES_DEEP)
		return 0;
	if (kind == BTF_KIND_PTR)
		return sizeof(void *);
	return kind == BTF_KIND_ARRAY ? a->nelems * type_bytes(b, a->type, depth + 1) : t->size;
}

static bool member_at(const struct btf *b, uint32_t id, uint32_t base, uint32_t at,
		      uint32_t *ret_first, uint32_t *ret_end, int depth)
{
	const struct btf_type *t = plain_type(b, &id);
	const struct btf_member *m = (const struct btf_member *)(const void *)(t + 1);
	const struct btf_array *a = (const struct btf_array *)(const void *)(t + 1);
	uint32_t kind = t ? BTF_INFO_KIND(t->info) : 0, bytes = type_bytes(b, id, 0);
	bool found = false;

	if (!kind || depth > TYPES_DEEP || at < base || at >= base + bytes)
		return false;
	if (kind == BTF_KIND_ARRAY) {
		uint32_t one = type_bytes(b, a->type, 0);

		return one && member_at(b, a->type, base + (at - base) / one * one, at, ret_first,
					ret_end, depth + 1);
	}
	if (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION) {
		*ret_first = base < *ret_first ? base : *ret_first;
		*ret_end = base + bytes > *ret_end ? base + bytes : *ret_end;
		return true;
	}
	for (uint32_t i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		bool kflag = BTF_INFO_KFLAG(t->info);
		uint32_t bit = kflag ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset;
		uint32_t bits = kflag ? BTF_MEMBER_BITFIELD_SIZE(m[i].offset) : 0;
		uint32_t first = base + bit / 8, end = base + (bit + bits + 7) / 8;

		if (!bits) {
			found |= member_at(b, m[i].type, first, at, ret_first, ret_end, depth + 1);
		} else if (at >= first && at < end) {
			*ret_first = first < *ret_first ? first : *ret_first;
			*ret_end = end > *ret_end ? end : *ret_end;
			found = true;
		}
	}
	return found;
}

bool btf_member_at(const struct btf *b, uint32_t id, uint32_t at, uint32_t *ret_first,
		   uint32_t *ret_end)
{
	*ret_first = UINT32_MAX;
	*ret_end = 0;
	return member_at(b, id, 0, at, ret_first, ret_end, 0);
}

uint32_t btf_size(const struct btf *b, uint32_t id)
{
	return id && id < b->types.n ? b->types.v[id]->size : 0;
}

int bpf_call(int cmd, union bpf_attr *attr)
{
	long fd = syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return fd < 0 ? -errno : (int)fd;
}

static int load(const char *name, const struct bpf_insn *insns, size_t n, union bpf_attr *a)
{
	a->insns = (uint64_t)insns;
	a->insn_cnt = (uint32_t)n;
	a->license = (uint64_t) "GPL";
	memccpy(a->prog_name, name, 0, sizeof(a->prog_name) - 1);
	return bpf_call(BPF_PROG_LOAD, a);
}

int bpf_iter_program(const char *name, uint32_t func, const struct bpf_insn *insns, size_t n)
{
	union bpf_attr a = { .prog_type = BPF_PROG_TYPE_TRACING,
			     .expected_attach_type = BPF_TRACE_ITER,
			     .attach_btf_id = func };

	return load(name, insns, n, &a);
}

int bpf_record_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

const void *bpf_record_find(const void *v, size_t n, size_t bytes, uint64_t key)
{
	return n ? bsearch(&key, v, n, bytes, bpf_record_compare) : NULL;
}

void bpf_put(struct bpf_program *p, const struct bpf_insn *insns, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct bpf_insn *slot = vec_push(p);

		if (!slot) {
			p->failed = true;
			return;
		}
		*slot = insns[i];
	}
}

void bpf_put_begin(struct bpf_program *p, int at)
{
	BPF_PUT(p, COPY(6, 1), LOAD(7, 6, at), IF_SET(7, 2));
	bpf_put_leave(p);
}

void bpf_put_leave(struct bpf_program *p)
{
	BPF_PUT(p, SET(0, 0), EXIT());
}

void bpf_put_write(struct bpf_program *p, unsigned int bytes)
{
	BPF_PUT(p, LOAD(1, 6, 0), LOAD(1, 1, 0), COPY(2, 10), ADD(2, -(int)bytes),
		SET(3, (int)bytes), CALL(BPF_FUNC_seq_write));
}

#define COPY_BYTES 256

void bpf_put_copy(struct bpf_program *p, int base, uint32_t bytes)
{
	for (uint32_t at = 0, n; at < bytes; at += n) {
		n = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
		BPF_PUT(p, FETCH(-(int)n, (int)n, base, (int)at));
		bpf_put_write(p, n);
	}
}

int bpf_room(uint32_t bytes)
{
	union bpf_attr a = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = bytes, .max_entries = 1
	};

	return bpf_call(BPF_MAP_CREATE, &a);
}

void bpf_put_room(struct bpf_program *p, int reg, int room_fd)
{
	BPF_PUT(p, INSN(BPF_LD | BPF_DW | BPF_IMM, reg, BPF_PSEUDO_MAP_VALUE, 0, room_fd),
		INSN(0, 0, 0, 0, 0));
}

void bpf_put_map(struct bpf_program *p, int reg, int map_fd)
{
	BPF_PUT(p, INSN(BPF_LD | BPF_DW | BPF_IMM, reg, BPF_PSEUDO_MAP_FD, 0, map_fd),
		INSN(0, 0, 0, 0, 0));
}

int bpf_program_load(struct bpf_program *p, const char *name, uint32_t func)
{
	int fd = p->failed ? -ENOMEM : bpf_iter_program(name, func, p->v, p->n);

	vec_free(p);
	return fd;
}

int bpf_raw_load(struct bpf_program *p, const char *name)
{
	union bpf_attr a = { .prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT };
	int fd = p->failed ? -ENOMEM : load(name, p->v, p->n, &a);

	vec_free(p);
	return fd;
}

int bpf_raw_attach(int prog_fd, const char *tracepoint)
{
	union bpf_attr a = { .raw_tracepoint = { .name = (uint64_t)tracepoint,
						 .prog_fd = (uint32_t)prog_fd } };

	return bpf_call(BPF_RAW_TRACEPOINT_OPEN, &a);
}

int bpf_program_misses(int prog_fd, uint64_t *ret)
{
	struct bpf_prog_info info = { 0 };
	union bpf_attr a = { .info = { .bpf_fd = (uint32_t)prog_fd,
				       .info_len = sizeof(info),
				       .info = (uint64_t)&info } };
	int rc = bpf_call(BPF_OBJ_GET_INFO_BY_FD, &a);

	*ret = info.recursion_misses;
	return rc;
}

int bpf_iter_open(int prog_fd, enum bpf_iter_of of, int pid)
{
	/* The kernel takes no more than it knows, and 6.1 knows these 12 bytes. */
	union bpf_iter_link_info info = {
		.task = { .tid = of == BPF_ITER_THREAD ? (uint32_t)pid : 0,
			  .pid = of == BPF_ITER_PROCESS ? (uint32_t)pid : 0 },
	};
	union bpf_attr a = { .link_create = { .prog_fd = (uint32_t)prog_fd,
					      .attach_type = BPF_TRACE_ITER,
					      .iter_info = (uint64_t)&info,
					      .iter_info_len = sizeof(info) } };
	auto_fd link = bpf_call(BPF_LINK_CREATE, &a);

	if (link < 0)
		return link;
	memset(&a, 0, sizeof(a));
	a.iter_create.link_fd = (uint32_t)link;
	return bpf_call(BPF_ITER_CREATE, &a);
}

int bpf_iter_read(int prog_fd, enum bpf_iter_of of, int pid, const struct bpf_iter_records *as,
		  void **ret, size_t *ret_n)
{
	auto_fd fd = bpf_iter_open(prog_fd, of, pid);
	auto_free char *buf = NULL;
	size_t len = 0, cap = 0;

	if (fd < 0)
		return fd;
	while (len / as->bytes < as->max) {
		ssize_t n;

		/* Room for all that one read gives, so that none ends amid a record. */
		if (cap - len < READ_BYTES) {
			char *larger = realloc(buf, cap = cap ? cap * 2 : 2 * READ_BYTES);

			if (!larger)
				return -ENOMEM;
			buf = larger;
		}
		n = read(fd, buf + len, cap - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n || (as->more && !as->more(buf, len, (size_t)n)))
			break;
		len += (size_t)n;
	}
	if (!len || len % as->bytes)
		return -ENODATA;
	*ret = take_ptr(buf);
	*ret_n = len / as->bytes;
	return 0;
}
