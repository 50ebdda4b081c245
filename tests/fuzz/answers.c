// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: what the interpreter left in the arena, which is memory of the target. Every aspect of a
 * task asks, the arena is overwritten, and every aspect reads its answers. The input is a list of
 * { u16 place, u8 length, bytes } to be written behind the interpreter's code.
 */
#include <sys/mman.h>

#include "dump/dump.h"
#include "fuzz.h"

#define ARENA_BYTES (256u << 10)
#define REMOTE 0x7f0000000000ull

static struct dump_ctx ctx;
static struct ckpt_dump_opts opts;
static struct target_thread thread;
static struct target_task task = { .threads = { .v = &thread, .n = 1 } };

static void read_answers(const struct task_facts *f, const struct arena *a, const struct ckpt_slot *slot,
			 uint64_t (*priv)[TASK_KIND_PRIV_WORDS])
{
	for (size_t i = 0; task_kinds[i]; i++) {
		const struct task_kind *k = task_kinds[i];
		struct ckpt_err err = { 0 };
		ProtobufCMessage *m;

		if (!k->ask)
			continue; /* what ptrace and /proc say is no answer */
		m = kind_msg_new(k->desc);
		if (k->dump(&ctx, f, a, slot, priv[i], m, &err) >= 0) {
			Ckpt__State *st = kind_state_new(k->name, m);

			ckpt__state__free_unpacked(st, NULL);
		}
		protobuf_c_message_free_unpacked(m, NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void *base;
	static char *status;
	static struct proc_stat stat;
	static uint64_t priv[64][TASK_KIND_PRIV_WORDS];
	struct input in = { data, size };
	struct task_facts f = { .task = &task, .thread = &thread, .main = true };
	struct ckpt_err err = { 0 };
	struct ckpt_slot *slot;
	struct arena a;
	struct steps s;

	if (!base) {
		base = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		task.pid = task.vpid = thread.tid = thread.vtid = getpid();
		task.mem_fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
		opts.pid = task.pid;
		ctx.opts = &opts;
		ctx.target.tasks.v = &task;
		ctx.target.tasks.n = ctx.target.tasks.cap = 1;
		task.parent = -1;
		if (proc_read(task.pid, "status", &status, NULL, &err) || proc_stat_read(task.pid, &stat, &err))
			abort();
	}
	f.status = status;
	f.stat = &stat;
	memset(base, 0, ARENA_BYTES);
	memset(priv, 0, sizeof(priv));
	arena_init(&a, base, REMOTE, ARENA_BYTES);
	steps_init(&s, &a);
	for (size_t i = 0; task_kinds[i]; i++)
		if (task_kinds[i]->ask && task_kinds[i]->ask(&ctx, &f, &s, priv[i], &err))
			abort();
	slot = arena_slot(&a);
	if (!slot || steps_commit(&s, slot, &err))
		abort();
	steps_free(&s);
	while (in.left >= 3) {
		size_t at = CKPT_ARENA_CODE + CKPT_ARENA_CODE_MAX + take(&in, 2);
		struct input piece = take_piece(&in, take(&in, 1));

		memcpy((char *)base + at, piece.p, piece.left);
	}
	read_answers(&f, &a, slot, priv);
	return 0;
}
