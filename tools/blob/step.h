/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The contract between ckpt and the interpreter that runs inside other
 * programs. Everything lives in one MAP_SHARED "arena":
 *
 *   +--------+------+-----------------------------+-----------------+
 *   | header | blob | slots (one a task or thread)| steps and data  |
 *   +--------+------+-----------------------------+-----------------+
 *   0        4096
 *
 * Addresses in here are addresses of the program that runs the interpreter.
 * Free of pointers and of padding; both sides are compiled from this file.
 */
#ifndef CKPT_BLOB_STEP_H
#define CKPT_BLOB_STEP_H

#define CKPT_ARENA_CODE 4096u     /* offset of the interpreter */
#define CKPT_ARENA_CODE_MAX 8192u /* its room */
#define CKPT_SLOT_STACK 1536u     /* bytes of stack behind each slot */

#define CKPT_SLOT_OFF_LEAVE 16
#define CKPT_SLOT_OFF_ARENA 24
#define CKPT_SLOT_OFF_ARENA_LEN 32

#ifndef __ASSEMBLER__
#include <stdint.h>

enum ckpt_op {
	CKPT_OP_END = 0, /* done: report, then wait for the owner */
	CKPT_OP_SYSCALL, /* ret = syscall nr(arg…); negative fails unless MAY_FAIL */
	CKPT_OP_CLONE,   /* clone3(arg0 = args, arg1 = size) into slot arg2 */
	CKPT_OP_READ,    /* fill [arg1, +arg2) from fd arg0 at offset arg3 */
	CKPT_OP_COPY,    /* copy arg2 bytes from arg1 to arg0 */
	CKPT_OP_BARRIER, /* arrive at word arg0, wait until arg1 have arrived */
	CKPT_OP_AWAIT,   /* wait until word arg0 is arg1 or more */
	CKPT_OP_EXIT,  /* a zombie-to-be: kill pid arg1 (itself) with signal arg2, or exit with arg0
			*/
	CKPT_OP_CHECK, /* fail with -EPROTO unless ret of step arg0 equals arg1 */
	CKPT_OP_EXIT_THREAD, /* a helper thread ends: report done, exit(0) */
	CKPT_OP_FILL, /* take part in the ckpt_fill job at arg0; return when all of it is done */
	CKPT_OP_JOIN, /* wait until word arg0 is 0 (CLONE_CHILD_CLEARTID) */
	CKPT_OP_LEND, /* set word arg0 to CKPT_LENT; wait until the owner sets CKPT_TAKEN or is gone
		       */
};

/* The word of CKPT_OP_LEND. The steps behind it run in either case: they take back what was lent.
 */
enum { CKPT_LENT = 1, CKPT_TAKEN = 2 };

#define CKPT_STEP_MAY_FAIL 1u /* go on when the call fails; ret keeps why */
#define CKPT_STEP_EXPECT 2u   /* for SYSCALL: ret must equal want, else -EPROTO */

struct ckpt_step {
	uint16_t op;
	uint16_t flags;
	uint32_t nr;
	uint32_t label; /* offset of a C string in the arena, for messages; 0 none */
	uint32_t refs;  /* bit n: arg n is the number of a step whose ret to use */
	uint64_t arg[6];
	int64_t ret;
	int64_t want;
};
_Static_assert(sizeof(struct ckpt_step) == 80, "step layout");

/* Memory to be read from files by any number of threads that share it. The upper 16 bits of off
 * are an index into fds: the files of all page files of a chain. */
struct ckpt_fill_part {
	uint64_t addr, len, off;
};
struct ckpt_fill {
	uint32_t next; /* first part that nobody took */
	uint32_t done; /* parts that are complete; a futex */
	int32_t err;   /* first -errno */
	uint32_t count;
	uint64_t parts; /* address of struct ckpt_fill_part[count] */
	uint64_t fds;   /* address of int32_t[] */
};
_Static_assert(sizeof(struct ckpt_fill) == 32, "fill layout");

enum ckpt_slot_state {
	CKPT_SLOT_IDLE = 0,
	CKPT_SLOT_RUNNING,
	CKPT_SLOT_DONE,
	CKPT_SLOT_FAILED,
	CKPT_SLOT_GONE, /* CKPT_OP_EXIT was reached */
	CKPT_SLOT_NEXT, /* the owner has put another list in */
};

struct ckpt_slot {
	uint64_t steps; /* address of struct ckpt_step[nsteps] */
	uint32_t nsteps;
	uint32_t pc;    /* step being run, or the one that failed */
	uint64_t leave; /* dump: where to jump when the owner is gone */
	uint64_t arena; /* dump: what to unmap there */
	uint64_t arena_len;
	uint64_t stack_top;
	uint32_t state; /* enum ckpt_slot_state; a futex */
	int32_t err;    /* -errno of the step that failed */
	int32_t tid;    /* as the owner sees it */
	uint32_t again; /* not the last list: wait for CKPT_SLOT_NEXT when it is done */
};
_Static_assert(sizeof(struct ckpt_slot) == 64, "slot layout");
_Static_assert(__builtin_offsetof(struct ckpt_slot, leave) == CKPT_SLOT_OFF_LEAVE, "asm");
_Static_assert(__builtin_offsetof(struct ckpt_slot, arena) == CKPT_SLOT_OFF_ARENA, "asm");
_Static_assert(__builtin_offsetof(struct ckpt_slot, arena_len) == CKPT_SLOT_OFF_ARENA_LEN, "asm");

#define CKPT_ARENA_MAGIC 0x414b5043u /* "CPKA" */

struct ckpt_arena {
	/* A robust futex that holds ckpt's tid; the kernel marks it when ckpt dies. */
	uint32_t owner;
	uint32_t reserved[15];
	uint32_t events; /* a futex: counts slots that ended in any way */
	uint32_t abort;  /* restore: a step failed somewhere, everyone stop */
	uint32_t go;     /* restore: never set; tasks wait here to be seized */
	uint32_t magic;  /* CKPT_ARENA_MAGIC: tells an arena that a killed ckpt left */
	uint64_t size;
};
#endif
#endif
