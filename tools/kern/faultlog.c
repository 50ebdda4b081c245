// SPDX-License-Identifier: GPL-2.0-only
#include "kern/faultlog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "kern/trial.h"

#define PAGE 4096u
#define SPACES 1024u /* that are logged at a time */
#define TASKS 1024u  /* that are amid a fault at a time */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* ---- the programs --------------------------------------------------------------------------- */

/* What they have below r10. */
#define AT_MM (-8)    /* which is logged */
#define AT_TASK (-16) /* that runs */
#define AT_FAULTING (-32)
#define AT_VALUE (-40)

#define ROOM(member) ((int)offsetof(struct fault_room, member))
#define ENTRY(member) (ROOM(entry) + (int)offsetof(struct fault_entry, member))
#define ENTRY_SHIFT 5
_Static_assert(sizeof(struct fault_entry) == 1u << ENTRY_SHIFT, "an entry is found by a shift");
_Static_assert(!(FAULT_ENTRIES & (FAULT_ENTRIES - 1)), "and by a mask");

/* A task amid a fault in the kernel: it will take the lock, or has it. */
struct faulting {
	uint64_t state; /* FAULTING or LOCKED */
	uint64_t began; /* when the task did: another one may be where it was */
};
enum { FAULTING = 1, LOCKED };
#define STATE ((int)offsetof(struct faulting, state))
#define BEGAN ((int)offsetof(struct faulting, began))
#define PF_MEMALLOC 0x800 /* of a task that gets memory back: what the kernel's headers call it */

enum { ON_USER, ON_KERNEL, ON_LOCK, ON_UNLOCK, ON_COUNT };
_Static_assert(ON_COUNT + 1 == FAULT_PROGRAMS, "each has one");

static const char *const tracepoints[] = {
	[ON_USER] = "page_fault_user",
	[ON_KERNEL] = "page_fault_kernel",
	[ON_LOCK] = "mmap_lock_acquire_returned",
	[ON_UNLOCK] = "mmap_lock_released",
	[ON_COUNT] = "rss_stat",
};

/* Where the kernel keeps it, and the maps of the programs. */
struct setting {
	int mm, disabled, flags, began; /* of struct task_struct */
	int exe, inode;                 /* of struct mm_struct and struct file */
	int entry;                      /* of struct pt_regs: which system call, or -1 */
	int write, success;             /* arguments of the lock's tracepoint */
	int room_fd, spaces_fd, faulting_fd;
};

static void put_leave_unless_set(struct bpf_program *p, int reg)
{
	BPF_PUT(p, IF_SET(reg, 2));
	bpf_put_leave(p);
}

static void put_leave_if_set(struct bpf_program *p, int reg)
{
	BPF_PUT(p, IF_NULL(reg, 2));
	bpf_put_leave(p);
}

/* r8: the task; r9: its address space. */
static void put_task(struct bpf_program *p, const struct setting *s)
{
	BPF_PUT(p, CALL(BPF_FUNC_get_current_task_btf), COPY(8, 0), STORE(10, 0, AT_TASK),
		LOAD(9, 0, s->mm));
}

/* r0: what map @map_fd has for the number at @at. */
static void put_lookup(struct bpf_program *p, int map_fd, int at)
{
	bpf_put_map(p, 1, map_fd);
	BPF_PUT(p, COPY(2, 10), ADD(2, at), CALL(BPF_FUNC_map_lookup_elem));
}

/* Go on only when the address space in register @reg, and at AT_MM, is logged. */
static void put_logged(struct bpf_program *p, const struct setting *s, int reg)
{
	struct bpf_program map = { 0 };

	BPF_PUT(&map, LOAD(2, 1, ROOM(many)));
	put_leave_unless_set(&map, 2);
	put_lookup(&map, s->spaces_fd, AT_MM);
	put_leave_unless_set(&map, 0);
	p->failed |= map.failed;

	bpf_put_room(p, 1, s->room_fd);
	for (size_t i = 0; i < FAULT_FEW; i++)
		BPF_PUT(p, LOAD(2, 1, ROOM(few) + 8 * (int)i),
			IF_SAME(2, reg, 2 * (FAULT_FEW - 1 - i) + map.n));
	bpf_put(p, map.v, map.n);
	vec_free(&map);
}

/* An entry of the address space at AT_MM, r7 its address and r9 by whom. */
static void put_entry(struct bpf_program *p, const struct setting *s)
{
	bpf_put_room(p, 1, s->room_fd);
	BPF_PUT(p, SET(0, 1), FETCH_ADD(1, 0, ROOM(n)), COPY(2, 0), AND(2, FAULT_ENTRIES - 1),
		SHIFT_LEFT(2, ENTRY_SHIFT), ADD_REG(1, 2), LOAD(3, 10, AT_MM),
		STORE(1, 3, ENTRY(mm)), STORE(1, 7, ENTRY(addr)), STORE(1, 9, ENTRY(by)), ADD(0, 1),
		STORE(1, 0, ENTRY(number)));
}

/* { address, registers, error code } */
static void put_fault(struct bpf_program *p, const struct setting *s, int on)
{
	BPF_PUT(p, LOAD(7, 1, 0));
	/* One in the kernel's own memory. */
	if (on == ON_KERNEL) {
		BPF_PUT(p, IF_AT_LEAST(7, 0, 2));
		bpf_put_leave(p);
	}
	put_task(p, s);
	BPF_PUT(p, STORE(10, 9, AT_MM));
	put_logged(p, s, 9);
	BPF_PUT(p, SET(9, 0));
	put_entry(p, s);
	if (on == ON_USER)
		return;
	/*
	 * Such a fault takes the lock next, unless it fails before: which it does where faults are
	 * disabled, and then whoever wanted to write tries another way. To read the number of who
	 * has disabled them disables them once more.
	 */
	BPF_PUT(p, FETCH(AT_VALUE, 4, 8, s->disabled), LOAD(0, 10, AT_VALUE), ADD(0, -1));
	put_leave_if_set(p, 0);
	BPF_PUT(p, STORE_IMM(10, FAULTING, AT_FAULTING + STATE), LOAD(1, 8, s->began),
		STORE(10, 1, AT_FAULTING + BEGAN));
	bpf_put_map(p, 1, s->faulting_fd);
	BPF_PUT(p, COPY(2, 10), ADD(2, AT_TASK), COPY(3, 10), ADD(3, AT_FAULTING), SET(4, BPF_ANY),
		CALL(BPF_FUNC_map_update_elem));
}

/* r6: the arguments; r7, and at AT_MM: the first, an address space. Go on only when it is logged.
 */
static void put_event(struct bpf_program *p, const struct setting *s)
{
	BPF_PUT(p, COPY(6, 1), LOAD(7, 6, 0), STORE(10, 7, AT_MM));
	put_logged(p, s, 7);
}

/* Leave where argument @arg is not @as. */
static void put_argument(struct bpf_program *p, int arg, bool as)
{
	BPF_PUT(p, LOAD8(0, 6, 8 * arg));
	if (as)
		put_leave_unless_set(p, 0);
	else
		put_leave_if_set(p, 0);
}

/* Note that this task does something to the address space in r7, unless it is ckpt. Of a task that
 * is of it what @own puts in decides: it leaves, or ends where that is noted. */
static void put_note(struct bpf_program *p, const struct setting *s,
		     void (*own)(struct bpf_program *p, const struct setting *s))
{
	struct bpf_program other = { 0 };

	put_task(p, s);
	BPF_PUT(&other, FETCH(AT_VALUE, 8, 9, s->exe), LOAD(9, 10, AT_VALUE),
		FETCH(AT_VALUE, 8, 9, s->inode), LOAD(9, 10, AT_VALUE));
	bpf_put_room(&other, 1, s->room_fd);
	BPF_PUT(&other, LOAD(1, 1, ROOM(own)), IF_OTHER(1, 9, 2));
	bpf_put_leave(&other);
	BPF_PUT(&other, SET(7, (int32_t)FAULT_ANY));
	put_entry(&other, s);
	bpf_put_leave(&other);
	p->failed |= other.failed;

	BPF_PUT(p, IF_SAME(9, 7, other.n));
	bpf_put(p, other.v, other.n);
	vec_free(&other);
	own(p, s);
	BPF_PUT(p, SET(7, (int32_t)FAULT_ANY_OWN), SET(9, 0));
	put_entry(p, s);
}

/* Do what @then says, and leave, when the task in r8 is amid a fault and in @state. Frees @then.
 * r0: its struct faulting. */
static void put_amid(struct bpf_program *p, const struct setting *s, int state,
		     struct bpf_program *then)
{
	bpf_put_leave(then);
	p->failed |= then->failed;
	put_lookup(p, s->faulting_fd, AT_TASK);
	BPF_PUT(p, IF_NULL(0, 5 + then->n), LOAD(1, 0, STATE), IF_UNEQUAL(1, state, 3 + then->n),
		LOAD(1, 0, BEGAN), LOAD(2, 8, s->began), IF_OTHER(1, 2, then->n));
	bpf_put(p, then->v, then->n);
	vec_free(then);
}

/* A fault that was told of has the lock from here on. */
static void put_own_lock(struct bpf_program *p, const struct setting *s)
{
	struct bpf_program locked = { 0 };

	BPF_PUT(&locked, STORE_IMM(0, LOCKED, STATE));
	put_amid(p, s, FAULTING, &locked);
}

/* A fault of the program, or one amid a system call; but what memory is got back from is no page of
 * a fault. */
static void put_own_count(struct bpf_program *p, const struct setting *s)
{
	struct bpf_program fault = { 0 }, nothing = { 0 };

	BPF_PUT(&fault, COPY(1, 8), CALL(BPF_FUNC_task_pt_regs), LOAD(0, 0, s->entry),
		IF_UNEQUAL(0, -1, 2));
	bpf_put_leave(&fault);
	put_amid(&fault, s, LOCKED, &nothing);
	p->failed |= fault.failed;

	BPF_PUT(p, FETCH(AT_VALUE, 4, 8, s->flags), LOAD(0, 10, AT_VALUE), AND(0, PF_MEMALLOC),
		IF_SET(0, fault.n));
	bpf_put(p, fault.v, fault.n);
	vec_free(&fault);
}

static void put_program(struct bpf_program *p, const struct setting *s, int on)
{
	switch (on) {
	case ON_LOCK: /* { address space, …, for writing?, successful? } */
		put_event(p, s);
		put_argument(p, s->success, true);
		/* Of whoever has it for writing the stamp tells. */
		put_argument(p, s->write, false);
		put_note(p, s, put_own_lock);
		break;
	case ON_UNLOCK: /* { address space, … } */
		put_event(p, s);
		put_task(p, s);
		bpf_put_map(p, 1, s->faulting_fd);
		BPF_PUT(p, COPY(2, 10), ADD(2, AT_TASK), CALL(BPF_FUNC_map_delete_elem));
		break;
	case ON_COUNT: /* { address space, pages of which kind } */
		put_event(p, s);
		put_note(p, s, put_own_count);
		break;
	default:
		put_fault(p, s, on);
	}
	bpf_put_leave(p);
}

static int map_new(uint32_t type, uint32_t value_bytes, uint32_t entries, uint32_t flags)
{
	union bpf_attr a = { .map_type = type,
			     .key_size = type == BPF_MAP_TYPE_ARRAY ? 4 : 8,
			     .value_size = value_bytes,
			     .max_entries = entries,
			     .map_flags = flags };

	return bpf_call(BPF_MAP_CREATE, &a);
}

static int setting_find(struct setting *ret, struct btf *b)
{
	uint32_t task;
	int rc = btf_load(b);

	if (rc)
		return rc;
	task = btf_struct(b, "task_struct");
	ret->mm = btf_offset(b, task, "mm");
	ret->disabled = btf_offset(b, task, "pagefault_disabled");
	ret->flags = btf_offset(b, task, "flags");
	ret->began = btf_offset(b, task, "start_time");
	ret->exe = btf_offset(b, btf_struct(b, "mm_struct"), "exe_file");
	ret->inode = btf_offset(b, btf_struct(b, "file"), "f_inode");
	ret->entry = btf_offset(b, btf_struct(b, "pt_regs"), "orig_ax");
	ret->write = btf_tracepoint_arg(b, tracepoints[ON_LOCK], "write");
	ret->success = btf_tracepoint_arg(b, tracepoints[ON_LOCK], "success");
	return ret->mm < 0 || ret->disabled < 0 || ret->flags < 0 || ret->began < 0 ||
			       ret->exe < 0 || ret->inode < 0 || ret->entry < 0 || ret->write < 0 ||
			       ret->success < 0 ||
			       btf_tracepoint_arg(b, tracepoints[ON_USER], "address") ||
			       btf_tracepoint_arg(b, tracepoints[ON_KERNEL], "address") ||
			       btf_tracepoint_arg(b, tracepoints[ON_LOCK], "mm") ||
			       btf_tracepoint_arg(b, tracepoints[ON_UNLOCK], "mm") ||
			       btf_tracepoint_arg(b, tracepoints[ON_COUNT], "mm")
		       ? -EOPNOTSUPP
		       : 0;
}

static int attach(struct fault_log *l, const struct setting *s)
{
	for (int on = 0; on < FAULT_PROGRAMS; on++) {
		struct bpf_program p = { 0 };
		int fd;

		put_program(&p, s, on);
		fd = bpf_raw_load(&p, tracepoints[on]);
		if (fd < 0)
			return fd;
		l->fd[FAULT_FD_PROGRAMS + on] = fd;
		fd = bpf_raw_attach(fd, tracepoints[on]);
		if (fd < 0)
			return fd;
		l->fd[FAULT_FD_LINKS + on] = fd;
	}
	return 0;
}

static int map_room(struct fault_log *l)
{
	void *p = mmap(NULL, sizeof(*l->room), PROT_READ | PROT_WRITE, MAP_SHARED,
		       l->fd[FAULT_FD_ROOM], 0);

	if (p == MAP_FAILED)
		return -errno;
	l->room = p;
	return 0;
}

static int begin(struct fault_log *l, struct btf *types)
{
	struct setting s = { 0 };
	auto_fd faulting = -1;
	int rc = setting_find(&s, types);

	if (rc)
		return rc;
	s.room_fd = l->fd[FAULT_FD_ROOM] =
		map_new(BPF_MAP_TYPE_ARRAY, sizeof(struct fault_room), 1, BPF_F_MMAPABLE);
	s.spaces_fd = l->fd[FAULT_FD_SPACES] = map_new(BPF_MAP_TYPE_HASH, 8, SPACES, 0);
	s.faulting_fd = faulting =
		map_new(BPF_MAP_TYPE_LRU_HASH, sizeof(struct faulting), TASKS, 0);
	if (s.room_fd < 0 || s.spaces_fd < 0 || faulting < 0)
		return -EOPNOTSUPP;
	rc = map_room(l);
	return rc ? rc : attach(l, &s);
}

/* ---- does it tell of everything? ------------------------------------------------------------ */

enum {
	SEEN = 1,  /* a fault of that page */
	NOTED = 2, /* or that something may have been written */
};

/* Each of a page of its own, unless it says otherwise. */
enum {
	BEGINS,
	WRITES,
	WRITES_ZERO,    /* where it has read before */
	WRITES_BY_CALL, /* amid a system call */
	POPULATES,
	LOCKS, /* a futex, which the kernel writes with faults disabled */
	WRITTEN_BY_VM,
	WRITTEN_BY_MEM,
	DROPS, /* what was populated */
	GUARDS,
	UNGUARDS, /* where it has a guard */
	STEPS,
};

static bool act(void *arg, int step)
{
	char *area = arg, *page = area + (size_t)step * PAGE;
	auto_fd zero = -1;

	switch (step) {
	case BEGINS:
	case WRITES:
		*(volatile char *)page = 1;
		return true;
	case WRITES_ZERO:
		*(volatile char *)page = (char)(*(volatile char *)page + 1);
		return true;
	case WRITES_BY_CALL:
		zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
		return zero >= 0 && read(zero, page, 1) == 1;
	case POPULATES:
		return !madvise(page, PAGE, MADV_POPULATE_WRITE);
	case LOCKS:
		return !syscall(SYS_futex, page, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
	case DROPS:
		return !madvise(area + (size_t)POPULATES * PAGE, PAGE, MADV_DONTNEED);
	case GUARDS:
		return !madvise(page, PAGE, MADV_GUARD_INSTALL);
	case UNGUARDS:
		return !madvise(area + (size_t)GUARDS * PAGE, PAGE, MADV_GUARD_REMOVE);
	default:
		return false;
	}
}

static bool write_from_outside(int pid, int step, char *page)
{
	char path[64], byte = 1;
	struct iovec own = { &byte, 1 }, its = { page, 1 };
	auto_fd mem = -1;

	if (step == WRITTEN_BY_VM)
		return process_vm_writev(pid, &own, 1, &its, 1, 0) == 1;
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDWR | O_CLOEXEC);
	return mem >= 0 && pwrite(mem, &byte, 1, (off_t)(uintptr_t)page) == 1;
}

struct log_trial {
	const struct fault_log *l;
	struct trial child;
	char *area;
	uint64_t mm;
	uint64_t by; /* who was noted last */
};

/* What is told of @step. -1: it did not work. */
static int told_of(struct log_trial *t, int step)
{
	const struct fault_room *r = t->l->room;
	char *page = t->area + (size_t)step * PAGE;
	uint64_t n = __atomic_load_n(&r->n, __ATOMIC_ACQUIRE);
	int told = 0;
	bool done = step == WRITTEN_BY_VM || step == WRITTEN_BY_MEM
			    ? write_from_outside(t->child.pid, step, page)
			    : trial_step(&t->child, step);

	for (; n < __atomic_load_n(&r->n, __ATOMIC_ACQUIRE); n++) {
		const struct fault_entry *e = &r->entry[n % FAULT_ENTRIES];

		if (e->number != n + 1 || e->mm != t->mm)
			continue;
		if (e->addr == FAULT_ANY || e->addr == FAULT_ANY_OWN)
			told |= NOTED;
		else if (e->addr / PAGE == (uintptr_t)page / PAGE)
			told |= SEEN;
		t->by = e->addr == FAULT_ANY ? e->by : t->by;
	}
	return done ? told : -1;
}

static bool notes(struct log_trial *t, int step)
{
	int told = told_of(t, step);

	return told > 0 && (told & NOTED);
}

/* A kernel that has no guards says so. */
static bool notes_if_possible(struct log_trial *t, int step)
{
	int told = told_of(t, step);

	return told < 0 || (told & NOTED);
}

static bool tells(struct log_trial *t)
{
	/* The first page of a mapping takes more than the others. */
	return told_of(t, BEGINS) >= 0 && told_of(t, WRITES) == SEEN &&
	       told_of(t, WRITES_ZERO) == SEEN && told_of(t, WRITES_BY_CALL) == SEEN &&
	       notes(t, POPULATES) && notes(t, LOCKS) && notes(t, WRITTEN_BY_VM) &&
	       notes(t, WRITTEN_BY_MEM) && notes(t, DROPS) && notes_if_possible(t, GUARDS) &&
	       notes_if_possible(t, UNGUARDS) && t->by;
}

static int check_once(const struct fault_log *l, const struct mm_watch *w)
{
	const size_t bytes = (size_t)STEPS * PAGE;
	struct log_trial t = { .l = l };
	struct mm_stamp stamp;
	int rc;

	t.area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t.area == MAP_FAILED)
		return -errno;
	/* One page at a time. */
	(void)madvise(t.area, bytes, MADV_NOHUGEPAGE);
	rc = trial_begin(&t.child, act, t.area);
	(void)munmap(t.area, bytes);
	if (rc)
		return rc;
	rc = mm_stamp_read(w, t.child.pid, &stamp);
	t.mm = stamp.mm;
	l->room->own = 1; /* nobody */
	if (!rc)
		rc = fault_log_add(l, t.mm);
	if (!rc) {
		rc = tells(&t) ? 0 : -EOPNOTSUPP;
		fault_log_remove(l, t.mm);
	}
	trial_end(&t.child);
	l->room->own = t.by;
	return rc;
}

#define TRIES 3

/* The kernel may get back a page of the child's at any time. */
static int check(const struct fault_log *l, const struct mm_watch *w)
{
	int rc = -EOPNOTSUPP;

	for (int i = 0; rc == -EOPNOTSUPP && i < TRIES; i++)
		rc = check_once(l, w);
	return rc;
}

void fault_log_init(struct fault_log *l)
{
	l->room = NULL;
	for (size_t i = 0; i < FAULT_FDS; i++)
		l->fd[i] = -1;
}

int fault_log_open(struct fault_log *ret, const struct mm_watch *w, struct btf *types)
{
	int rc = w->stamp_fd < 0 || ckpt_fault("kern.faultlog") ? -EOPNOTSUPP : 0;

	fault_log_init(ret);
	if (!rc)
		rc = begin(ret, types);
	if (!rc)
		rc = check(ret, w);
	if (rc)
		fault_log_close(ret);
	return rc;
}

int fault_log_adopt(struct fault_log *ret, const int *fds)
{
	int rc;

	fault_log_init(ret);
	memcpy(ret->fd, fds, sizeof(ret->fd));
	rc = map_room(ret);
	if (rc)
		fault_log_close(ret);
	return rc;
}

void fault_log_close(struct fault_log *l)
{
	if (l->room)
		(void)munmap(l->room, sizeof(*l->room));
	for (size_t i = 0; i < FAULT_FDS; i++)
		if (l->fd[i] >= 0)
			(void)close(l->fd[i]);
	fault_log_init(l);
}

int fault_log_add(const struct fault_log *l, uint64_t mm)
{
	union bpf_attr a = { .map_fd = (uint32_t)l->fd[FAULT_FD_SPACES],
			     .key = (uint64_t)&mm,
			     .value = (uint64_t)&mm };
	int rc;

	for (size_t i = 0; i < FAULT_FEW; i++)
		if (!l->room->few[i] || l->room->few[i] == mm) {
			__atomic_store_n(&l->room->few[i], mm, __ATOMIC_RELEASE);
			return 0;
		}
	rc = bpf_call(BPF_MAP_UPDATE_ELEM, &a);
	if (!rc)
		__atomic_store_n(&l->room->many, 1, __ATOMIC_RELEASE);
	return rc;
}

void fault_log_remove(const struct fault_log *l, uint64_t mm)
{
	union bpf_attr a = { .map_fd = (uint32_t)l->fd[FAULT_FD_SPACES], .key = (uint64_t)&mm };

	for (size_t i = 0; i < FAULT_FEW; i++)
		if (l->room->few[i] == mm)
			__atomic_store_n(&l->room->few[i], 0, __ATOMIC_RELEASE);
	(void)bpf_call(BPF_MAP_DELETE_ELEM, &a);
}

int fault_log_misses(const struct fault_log *l, uint64_t *ret)
{
	int rc = 0;

	*ret = 0;
	for (int i = 0; !rc && i < FAULT_PROGRAMS; i++) {
		uint64_t one;

		rc = bpf_program_misses(l->fd[FAULT_FD_PROGRAMS + i], &one);
		*ret += one;
	}
	return rc;
}
