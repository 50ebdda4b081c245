/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's description of its types, and BPF programs on its iterators that go by it. */
#ifndef CKPT_KERN_BTF_H
#define CKPT_KERN_BTF_H

#include <linux/bpf.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct btf {
	char *data;
	size_t mapped; /* bytes; 0: allocated */
	const char *strings;
	uint32_t strings_len;
	struct {
		const struct btf_type **v;
		size_t n, cap;
	} types; /* by number; 0 is void */
};

/* Some 2 ms, unless it is there already. 0 or -errno; to be freed in both cases. */
int btf_load(struct btf *b);
void btf_free(struct btf *b);
/* The number of type @name of kind BTF_KIND_*; 0: none. */
uint32_t btf_find(const struct btf *b, uint32_t kind, const char *name);
/* That of struct @name. */
uint32_t btf_struct(const struct btf *b, const char *name);
/* Byte offset of a member of struct @id, also of one in an unnamed part of it; -1: none. */
int btf_offset(const struct btf *b, uint32_t id, const char *name);
/* The member of struct @id that has byte @at, also one in a part of it: no struct, and of an array
 * one element. Where several share it (bits, a union) all that they cover. False: none has it. */
bool btf_member_at(const struct btf *b, uint32_t id, uint32_t at, uint32_t *ret_first,
		   uint32_t *ret_end);
/* Which argument of a raw tracepoint the one called @name is; -1: there is none. */
int btf_tracepoint_arg(const struct btf *b, const char *tracepoint, const char *name);
/* Bytes of struct @id. */
uint32_t btf_size(const struct btf *b, uint32_t id);

/* bpf(2): a descriptor or -errno. */
int bpf_call(int cmd, union bpf_attr *attr);
/* Load a program that the iterator function @func calls. A descriptor or -errno. */
int bpf_iter_program(const char *name, uint32_t func, const struct bpf_insn *insns, size_t n);
/* What it writes for one thread, for all of one process, or for all of our pid namespace. A
 * descriptor to read or -errno. */
enum bpf_iter_of { BPF_ITER_THREAD, BPF_ITER_PROCESS, BPF_ITER_ALL };
int bpf_iter_open(int prog_fd, enum bpf_iter_of of, int pid);
/* What a program writes is records of @bytes: all of them, at most @max or some more, as long as
 * @more (or NULL) says that the @n bytes behind the first @len go on where these end. */
struct bpf_iter_records {
	size_t bytes, max;
	bool (*more)(const void *buf, size_t len, size_t n);
};
/* *ret_n records; the caller frees *ret. 0 or -errno. */
int bpf_iter_read(int prog_fd, enum bpf_iter_of of, int pid, const struct bpf_iter_records *as,
		  void **ret, size_t *ret_n);

/* For qsort(3) of records that begin with a number of 8 bytes; and the one of @n of @bytes,
 * ascending, that begins with @key, or NULL. */
int bpf_record_compare(const void *a, const void *b);
const void *bpf_record_find(const void *v, size_t n, size_t bytes, uint64_t key);

/* A program that is put together, for whoever gives its argument in r1. */
struct bpf_program {
	struct bpf_insn *v;
	size_t n, cap;
	bool failed; /* out of memory */
};
void bpf_put(struct bpf_program *p, const struct bpf_insn *insns, size_t n);
#define BPF_PUT(p, ...)                                                                            \
	bpf_put(p, (const struct bpf_insn[]) { __VA_ARGS__ },                                      \
		sizeof((const struct bpf_insn[]) { __VA_ARGS__ }) / sizeof(struct bpf_insn))
/* r6: the argument, r7: the pointer at @at in it. Ends where that is NULL, as behind the last. */
void bpf_put_begin(struct bpf_program *p, int at);
/* End here. */
void bpf_put_leave(struct bpf_program *p);
/* Write the @bytes right below r10; r6: the argument. */
void bpf_put_write(struct bpf_program *p, unsigned int bytes);
/* Write @bytes from where register @base points to, by way of the 256 bytes below r10. */
void bpf_put_copy(struct bpf_program *p, int base, uint32_t bytes);
/* Room of @bytes that a program may use as it likes, gone with the last descriptor of it and of
 * programs that were loaded with it. A descriptor or -errno. */
int bpf_room(uint32_t bytes);
/* Have register @reg point to it. */
void bpf_put_room(struct bpf_program *p, int reg, int room_fd);
/* The same of map @map_fd, as maps are given to the kernel's functions. */
void bpf_put_map(struct bpf_program *p, int reg, int map_fd);
/* As bpf_iter_program(); frees what was put together. */
int bpf_program_load(struct bpf_program *p, const char *name, uint32_t func);
/* The same for a raw tracepoint, of which r1 is the array of arguments. */
int bpf_raw_load(struct bpf_program *p, const char *name);
/* It runs at @tracepoint from here on, as long as this descriptor is open. Or -errno. */
int bpf_raw_attach(int prog_fd, const char *tracepoint);
/* How often it was left out because it ran already. 0 or -errno. */
int bpf_program_misses(int prog_fd, uint64_t *ret);

#define INSN(op, d, s, o, i)                                                                       \
	{                                                                                          \
		.code = (op), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (i)      \
	}
#define LOAD(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define LOAD32(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_W, d, s, o, 0)
#define LOAD16(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_H, d, s, o, 0)
#define LOAD8(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_B, d, s, o, 0)
#define STORE(d, s, o) INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE_IMM(d, i, o) INSN(BPF_ST | BPF_MEM | BPF_DW, d, 0, o, i)
#define COPY(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define ADD_REG(d, s) INSN(BPF_ALU64 | BPF_ADD | BPF_X, d, s, 0, 0)
#define MUL(d, i) INSN(BPF_ALU64 | BPF_MUL | BPF_K, d, 0, 0, i)
#define SHIFT_LEFT(d, i) INSN(BPF_ALU64 | BPF_LSH | BPF_K, d, 0, 0, i)
#define SHIFT_RIGHT(d, i) INSN(BPF_ALU64 | BPF_RSH | BPF_K, d, 0, 0, i)
#define AND(d, i) INSN(BPF_ALU64 | BPF_AND | BPF_K, d, 0, 0, i)
/* (register @d) + @o goes on by register @s, which is what was there before then. */
#define FETCH_ADD(d, s, o) INSN(BPF_STX | BPF_ATOMIC | BPF_DW, d, s, o, BPF_ADD | BPF_FETCH)
/* Jump over @o instructions. */
#define IF_AT_LEAST(d, i, o) INSN(BPF_JMP | BPF_JSGE | BPF_K, d, 0, o, i)
#define IF_OTHER(d, s, o) INSN(BPF_JMP | BPF_JNE | BPF_X, d, s, o, 0)
#define IF_SAME(d, s, o) INSN(BPF_JMP | BPF_JEQ | BPF_X, d, s, o, 0)
#define IF_UNEQUAL(d, i, o) INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, o, i)
#define IF_EQUAL(d, i, o) INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, o, i)
#define IF_SET(d, o) INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, o, 0)
#define IF_NULL(d, o) INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, o, 0)
#define CALL(i) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, i)
#define EXIT() INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* Copy @bytes from (register @base) + @off to (r10) + @to; zeros when there is nothing. A copy of
 * fewer than 8 fills them up. */
#define FETCH(to, bytes, base, off) STORE_IMM(10, 0, to), FETCH_MANY(to, bytes, base, off)
/* The same of a multiple of 8 bytes; or to (register @reg) + @to. */
#define FETCH_MANY(to, bytes, base, off) FETCH_TO(10, to, bytes, base, off)
#define FETCH_TO(reg, to, bytes, base, off)                                                        \
	COPY(1, reg), ADD(1, to), SET(2, bytes), COPY(3, base), ADD(3, off),                       \
		CALL(BPF_FUNC_probe_read_kernel)

#endif
