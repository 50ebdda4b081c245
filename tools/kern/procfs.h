/* SPDX-License-Identifier: GPL-2.0-only */
/* What /proc says about a task. Numbers are as this pid namespace sees them. */
#ifndef CKPT_KERN_PROCFS_H
#define CKPT_KERN_PROCFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "kern/vmaiter.h"

/* /proc/PID/stat, proc(5) */
struct proc_stat {
	int pid, ppid, pgrp, session, tty_nr, tpgid, num_threads;
	char comm[64];
	char state;
	unsigned int flags;  /* PF_* */
	uint64_t start_time; /* clock ticks since boot */
	uint64_t faults;     /* of pages, minor and major */
	int exit_signal, exit_code;
	uint64_t start_code, end_code, start_stack, start_data, end_data, start_brk;
	uint64_t arg_start, arg_end, env_start, env_end;
};

#define PROC_PF_KTHREAD 0x00200000u
#define PROC_PF_EXITING 0x00000004u

/* One mapping, as /proc/PID/smaps tells it. */
struct proc_vma {
	uint64_t start, end, pgoff;
	uint32_t prot; /* PROT_* */
	bool shared;   /* MAP_SHARED */
	unsigned int dev_major, dev_minor;
	uint64_t ino;
	char *path;     /* as printed, " (deleted)" included; NULL for none */
	uint64_t flags; /* PROC_VMF_* from VmFlags */
	uint64_t page_kb;
	uint64_t uffd; /* as struct vma_iter_entry has it; 0 from smaps */
	bool pristine; /* of a file, and certainly without a page, or a guard, of its own */
};

/* VmFlags by their two letters; bits are ours. */
/* clang-format off */
#define PROC_VM_FLAGS(X)                                                                           \
	X(sh) X(mw) X(gd) X(pf) X(lo) X(io) X(sr) X(rr) X(dc) X(de) X(ac) X(nr) X(ht) X(sf) X(ar)  \
	X(wf) X(dd) X(sd) X(mm) X(hg) X(nh) X(mg) X(um) X(uw) X(ui) X(dp) X(ss) X(sl) X(lf) X(bt)  \
	X(mt) X(fd) X(gu)
/* clang-format on */
enum {
#define X(f) PROC_VMF_BIT_##f,
	PROC_VM_FLAGS(X)
#undef X
		PROC_VMF_COUNT
};
#define PROC_VMF(f) (1ull << PROC_VMF_BIT_##f)

struct proc_vmas {
	struct proc_vma *v;
	size_t n, cap;
};

/* What the kernel calls itself behind a line of /proc/PID/maps, like "[vdso]"; "" for everything
 * else. Names of files begin with a slash, whatever else the program that chose them put into them.
 */
const char *proc_map_name(const char *line, size_t *ret_len);
/* The first mapping in @maps, the text of /proc/PID/maps, that is called @name. */
bool proc_map_find(const char *maps, const char *name, uint64_t *ret_start, uint64_t *ret_end);

/* All return 0 or -errno with *err set; -ESRCH and E_TARGET_GONE when the task is gone. */
int proc_stat_read(int pid, struct proc_stat *ret, struct ckpt_err *err) __must_check;
/* With @it (may be NULL) no page is looked at, unless a flag is not known that way. */
int proc_vmas_read(int pid, const struct vma_iter *it, struct proc_vmas *ret,
		   struct ckpt_err *err) __must_check;
/* The same with the text of maps as it was read before (or NULL). What the iterator does not
 * confirm is read from smaps. */
int proc_vmas_parse(int pid, const struct vma_iter *it, const char *maps, struct proc_vmas *ret,
		    struct ckpt_err *err) __must_check;
bool proc_vma_is_gate(const struct proc_vma *v);
void proc_vmas_free(struct proc_vmas *v);
/* /proc/PID/NAME whole; the caller frees. */
int proc_read(int pid, const char *name, char **ret_buf, size_t *ret_len,
	      struct ckpt_err *err) __must_check;
/* /proc/PID/task/TID/status; the caller frees. */
int proc_thread_status(int pid, int tid, char **ret, struct ckpt_err *err) __must_check;
int proc_open(int pid, const char *name, int flags, int *ret_fd, struct ckpt_err *err) __must_check;
/* What the kernel adds to the name of a file that has been removed, and the length of a name
 * without it. */
#define PROC_DELETED " (deleted)"
size_t proc_name_len(const char *name);
bool proc_name_deleted(const char *name);
/* /proc/PID/map_files of [start, end), a whole mapping of @pid; 0 is ckpt itself. */
#define PROC_MAP_PATH 96
void proc_map_path(int pid, uint64_t start, uint64_t end, char ret[PROC_MAP_PATH]);
/* The file behind it: a descriptor or -errno. */
int proc_map_open(int pid, uint64_t start, uint64_t end, int flags);
/* The name of the file behind a mapping as it is: in smaps a newline looks like a backslash and
 * digits. */
int proc_map_link(int pid, const struct proc_vma *v, char **ret, struct ckpt_err *err) __must_check;
/* The link behind /proc/PID/NAME, NUL-terminated; the caller frees. */
int proc_readlink(int pid, const char *name, char **ret, struct ckpt_err *err) __must_check;
/* Value behind "KEY:" in a status-like text; NULL when absent. Points into @text. */
const char *proc_field(const char *text, const char *key);
/* n-th number behind "KEY:", e.g. Uid: real effective saved fs. */
bool proc_field_num(const char *text, const char *key, int n, int base, uint64_t *ret);
/* The pid in the innermost pid namespace of the task with this status; 0: it does not say. */
int proc_status_inner(const char *status, bool *ret_nested);
/* The pid in the innermost pid namespace of @pid (or of a thread: tid). */
int proc_inner_pid(int pid, int tid, int *ret, bool *ret_nested, struct ckpt_err *err) __must_check;

/* Children of all threads, ascending; threads, the main thread first, then ascending. The caller
 * frees. */
struct proc_pids {
	int *v;
	size_t n, cap;
};
/* @pid, or, when the first thread of that process has ended while others go on, the lowest of them;
 * 0: no thread of it is left. */
int proc_live(int pid);
/* Of @threads, all that it has; NULL: they are looked up. */
int proc_children(int pid, const struct proc_pids *threads, struct proc_pids *ret,
		  struct ckpt_err *err) __must_check;
/* Also those that have ended and were not waited for; 0: it is gone. */
size_t proc_thread_count(int pid);
int proc_threads(int pid, struct proc_pids *ret, struct ckpt_err *err) __must_check;

#endif
