// SPDX-License-Identifier: GPL-2.0-only
/* Parses /proc; knows nothing of checkpoints. */
#include "kern/procfs.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"
#include "base/vec.h"

#define MANY_THREADS 64
#define PAGE_KB 4
#define GATE_START 0xffffffff00000000ull /* vsyscall: in every address space, and no mapping */

static int fail_proc(struct ckpt_err *err, int pid, const char *name, int rc)
{
	if (rc == -ENOENT || rc == -ESRCH)
		return ckpt_fail(err, E_TARGET_GONE, -ESRCH, "task %d is gone", pid);
	return ckpt_fail_errno(err, E_KERNEL, rc, "cannot read /proc/%d/%s", pid, name);
}

int proc_open(int pid, const char *name, int flags, int *ret_fd, struct ckpt_err *err)
{
	char path[96];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return fail_proc(err, pid, name, -errno);
	*ret_fd = fd;
	return 0;
}

/* Files of one record: the kernel makes them whole before it answers the first read. */
static bool is_single_record(const char *name)
{
	static const char *const single[] = { "stat",          "status",          "limits",
					      "oom_score_adj", "coredump_filter", "loginuid",
					      "auxv",          "cgroup" };
	const char *base = strrchr(name, '/');

	base = base ? base + 1 : name;
	for (size_t i = 0; i < ARRAY_SIZE(single); i++)
		if (!strcmp(base, single[i]))
			return true;
	return !strncmp(name, "fdinfo/", 7);
}

int proc_read(int pid, const char *name, char **ret_buf, size_t *ret_len, struct ckpt_err *err)
{
	char path[96];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	n = is_single_record(name) ? io_read_small(AT_FDCWD, path, ret_buf)
				   : io_read_file(AT_FDCWD, path, ret_buf);
	if (n < 0)
		return fail_proc(err, pid, name, (int)n);
	if (ret_len)
		*ret_len = (size_t)n;
	return 0;
}

int proc_thread_status(int pid, int tid, char **ret, struct ckpt_err *err)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "task/%d/status", tid);
	return proc_read(pid, name, ret, NULL, err);
}

int proc_readlink(int pid, const char *name, char **ret, struct ckpt_err *err)
{
	char path[96], buf[PATH_MAX + 32];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	n = readlink(path, buf, sizeof(buf) - 1);
	if (n < 0)
		return fail_proc(err, pid, name, -errno);
	buf[n] = 0;
	*ret = strdup(buf);
	return *ret ? 0 : ckpt_oom(err);
}

size_t proc_name_len(const char *name)
{
	size_t len = strlen(name), cut = strlen(PROC_DELETED);

	return len > cut && !strcmp(name + len - cut, PROC_DELETED) ? len - cut : len;
}

bool proc_name_deleted(const char *name)
{
	return name[proc_name_len(name)] != 0;
}

static void map_name(uint64_t start, uint64_t end, char ret[64])
{
	(void)snprintf(ret, 64, "map_files/%llx-%llx", (unsigned long long)start,
		       (unsigned long long)end);
}

void proc_map_path(int pid, uint64_t start, uint64_t end, char ret[PROC_MAP_PATH])
{
	char name[64];

	map_name(start, end, name);
	if (pid)
		(void)snprintf(ret, PROC_MAP_PATH, "/proc/%d/%s", pid, name);
	else
		(void)snprintf(ret, PROC_MAP_PATH, "/proc/self/%s", name);
}

int proc_map_open(int pid, uint64_t start, uint64_t end, int flags)
{
	char path[PROC_MAP_PATH];
	int fd;

	proc_map_path(pid, start, end, path);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int proc_map_link(int pid, const struct proc_vma *v, char **ret, struct ckpt_err *err)
{
	char name[64];

	map_name(v->start, v->end, name);
	return proc_readlink(pid, name, ret, err);
}

int proc_stat_read(int pid, struct proc_stat *ret, struct ckpt_err *err)
{
	auto_free char *buf = NULL;
	struct proc_stat st = { 0 };
	uint64_t f[53] = { 0 };
	char *open_paren, *close_paren, *p;
	int rc = proc_read(pid, "stat", &buf, NULL, err);

	if (rc)
		return rc;
	open_paren = strchr(buf, '(');
	close_paren = strrchr(buf, ')');
	if (!open_paren || !close_paren || close_paren < open_paren || !close_paren[1] ||
	    !close_paren[2])
		return ckpt_fail(err, E_INTERNAL, -EPROTO, "/proc/%d/stat is malformed", pid);
	*close_paren = 0;
	(void)snprintf(st.comm, sizeof(st.comm), "%s", open_paren + 1);
	st.pid = atoi(buf);
	p = close_paren + 2;
	st.state = *p++;
	for (int i = 4; i < 53 && *p; i++)
		f[i] = strtoull(p, &p, 10); /* negative numbers wrap, and are cast back */
	st.ppid = (int)f[4];
	st.pgrp = (int)f[5];
	st.session = (int)f[6];
	st.tty_nr = (int)f[7];
	st.tpgid = (int)f[8];
	st.flags = (unsigned int)f[9];
	st.num_threads = (int)f[20];
	st.start_time = f[22];
	st.faults = f[10] + f[12];
	st.start_code = f[26];
	st.end_code = f[27];
	st.start_stack = f[28];
	st.exit_signal = (int)f[38];
	st.start_data = f[45];
	st.end_data = f[46];
	st.start_brk = f[47];
	st.arg_start = f[48];
	st.arg_end = f[49];
	st.env_start = f[50];
	st.env_end = f[51];
	st.exit_code = (int)f[52];
	*ret = st;
	return 0;
}

static const char *const vm_flag_names[] = {
#define X(f) #f,
	PROC_VM_FLAGS(X)
#undef X
};

static uint64_t parse_vm_flags(const char *p)
{
	uint64_t flags = 0;

	for (;;) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (!isalpha((unsigned char)p[0]) || !isalpha((unsigned char)p[1]))
			break;
		for (unsigned int i = 0; i < PROC_VMF_COUNT; i++)
			if (vm_flag_names[i][0] == p[0] && vm_flag_names[i][1] == p[1])
				flags |= 1ull << i;
		p += 2;
	}
	return flags;
}

/* A number of base @base and the character behind it. */
static bool parse_num(const char **at, int base, char behind, uint64_t *ret)
{
	char *end;

	if (!isxdigit((unsigned char)**at))
		return false;
	*ret = strtoull(*at, &end, base);
	if (end == *at || *end != behind)
		return false;
	*at = end + 1;
	return true;
}

/* "start-end rwxp offset major:minor ino   path" */
static bool parse_map_line(const char *line, struct proc_vma *v)
{
	uint64_t major, minor;
	const char *perms;

	if (!parse_num(&line, 16, '-', &v->start) || !parse_num(&line, 16, ' ', &v->end))
		return false;
	perms = line;
	if (strcspn(perms, " \n") != 4)
		return false;
	line += 4;
	line += *line == ' ';
	if (!parse_num(&line, 16, ' ', &v->pgoff) || !parse_num(&line, 16, ':', &major) ||
	    !parse_num(&line, 16, ' ', &minor) || !isdigit((unsigned char)*line))
		return false;
	v->dev_major = (unsigned int)major;
	v->dev_minor = (unsigned int)minor;
	v->ino = strtoull(line, (char **)&line, 10);
	v->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
		  (perms[2] == 'x' ? PROT_EXEC : 0);
	v->shared = perms[3] == 's';
	line += strspn(line, " ");
	if (*line && *line != '\n') {
		v->path = strndup(line, strcspn(line, "\n"));
		return v->path;
	}
	return true;
}

const char *proc_map_name(const char *line, size_t *ret_len)
{
	*ret_len = 0;
	/* Behind addresses, rights, offset, device and inode. */
	for (int i = 0; i < 5; i++) {
		line += strcspn(line, " \n");
		line += strspn(line, " ");
	}
	if (*line != '[')
		return "";
	*ret_len = strcspn(line, "\n");
	return line;
}

bool proc_map_find(const char *maps, const char *name, uint64_t *ret_start, uint64_t *ret_end)
{
	for (const char *p = maps; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		size_t len;
		const char *at = proc_map_name(p, &len);

		if (len == strlen(name) && !memcmp(at, name, len))
			return text_scan(p, "%" SCNx64 "-%" SCNx64, ret_start, ret_end) == 2;
	}
	return false;
}

bool proc_vma_is_gate(const struct proc_vma *v)
{
	return v->start >= GATE_START;
}

static int read_smaps(int pid, struct proc_vmas *ret, struct ckpt_err *err)
{
	struct proc_vmas vmas = { 0 };
	char path[64];
	/* Less than one mapping's text. A read that wants more makes the kernel begin one that does
	 * not fit, and walk the pages of that mapping again in the next read. */
	char buf[512];
	auto_file FILE *f = NULL;
	auto_free char *line = NULL;
	struct proc_vma *cur = NULL;
	size_t cap = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "re");
	if (!f)
		return fail_proc(err, pid, "smaps", -errno);
	(void)setvbuf(f, buf, _IOFBF, sizeof(buf));
	while (getline(&line, &cap, f) > 0) {
		if (isupper((unsigned char)line[0])) {
			if (!cur)
				continue;
			if (!strncmp(line, "VmFlags:", 8))
				cur->flags = parse_vm_flags(line + 8);
			else if (!strncmp(line, "KernelPageSize:", 15))
				cur->page_kb = strtoull(line + 15, NULL, 10);
			continue;
		}
		cur = vec_push(&vmas);
		if (!cur || !parse_map_line(line, cur)) {
			proc_vmas_free(&vmas);
			return ckpt_fail(err, E_INTERNAL, cur ? -EPROTO : -ENOMEM,
					 "/proc/%d/smaps cannot be read", pid);
		}
	}
	*ret = vmas;
	return 0;
}

/* The lines of maps, which looks at no page; without flags. */
static int parse_maps(int pid, const char *text, struct proc_vmas *ret, struct ckpt_err *err)
{
	struct proc_vmas vmas = { 0 };

	for (const char *l = text; *l; l += strcspn(l, "\n"), l += *l == '\n') {
		struct proc_vma *v = vec_push(&vmas);

		if (v && parse_map_line(l, v)) {
			v->page_kb = PAGE_KB;
			continue;
		}
		proc_vmas_free(&vmas);
		return ckpt_fail(err, E_INTERNAL, v ? -EPROTO : -ENOMEM,
				 "/proc/%d/maps cannot be read", pid);
	}
	*ret = vmas;
	return 0;
}

/* The flags of all of them, or -errno: smaps must tell. */
static int iterate_flags(const struct vma_iter *it, int pid, struct proc_vmas *vmas)
{
	auto_free struct vma_iter_entry *e = NULL;
	uint64_t n = 0, k = 0;
	int rc = vma_iter_read(it, pid, &e, &n);

	for (size_t i = 0; !rc && i < vmas->n; i++) {
		struct proc_vma *v = &vmas->v[i];

		if (proc_vma_is_gate(v))
			continue;
		/* Also what changed between the two looks, of a program that runs. */
		if (k == n || e[k].start != v->start || e[k].end != v->end ||
		    !vma_iter_flags(it, e[k].vm_flags, &v->flags) || (v->flags & PROC_VMF(ht)))
			return -ESTALE;
		v->uffd = e[k].uffd;
		v->pristine = v->ino && !e[k].anon && !(v->flags & PROC_VMF(gu));
		k++;
	}
	return !rc && k != n ? -ESTALE : rc;
}

int proc_vmas_parse(int pid, const struct vma_iter *it, const char *maps, struct proc_vmas *ret,
		    struct ckpt_err *err)
{
	struct ckpt_err ignore = { 0 };
	struct proc_vmas vmas = { 0 };

	if (it && it->prog_fd >= 0 && maps) {
		if (!parse_maps(pid, maps, &vmas, &ignore) && !iterate_flags(it, pid, &vmas)) {
			*ret = vmas;
			return 0;
		}
		proc_vmas_free(&vmas);
	}
	return read_smaps(pid, ret, err);
}

int proc_vmas_read(int pid, const struct vma_iter *it, struct proc_vmas *ret, struct ckpt_err *err)
{
	auto_free char *maps = NULL;
	struct ckpt_err ignore = { 0 };

	if (it && it->prog_fd >= 0 && proc_read(pid, "maps", &maps, NULL, &ignore))
		maps = NULL; /* smaps will say why */
	return proc_vmas_parse(pid, it, maps, ret, err);
}

void proc_vmas_free(struct proc_vmas *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->v[i].path);
	vec_free(v);
}

const char *proc_field(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		if (strncmp(p, key, n) != 0 || p[n] != ':')
			continue;
		p += n + 1;
		while (*p == ' ' || *p == '\t')
			p++;
		return p;
	}
	return NULL;
}

bool proc_field_num(const char *text, const char *key, int n, int base, uint64_t *ret)
{
	const char *p = proc_field(text, key);
	char *end;

	for (int i = 0; p && *p != '\n'; i++) {
		uint64_t v = strtoull(p, &end, base);

		if (end == p)
			return false;
		if (i == n) {
			*ret = v;
			return true;
		}
		p = end;
		while (*p == ' ' || *p == '\t')
			p++;
	}
	return false;
}

int proc_status_inner(const char *status, bool *ret_nested)
{
	uint64_t v = 0;
	int n;

	for (n = 0; proc_field_num(status, "NSpid", n, 10, &v); n++)
		;
	*ret_nested = n > 1;
	return (int)v;
}

int proc_inner_pid(int pid, int tid, int *ret, bool *ret_nested, struct ckpt_err *err)
{
	auto_free char *buf = NULL;
	bool nested = false;
	int rc;

	rc = proc_thread_status(pid, tid, &buf, err);
	if (rc)
		return rc;
	*ret = proc_status_inner(buf, &nested);
	/* The kernel has taken its numbers already. */
	if (!*ret && proc_field(buf, "NSpid"))
		return ckpt_fail(err, E_TARGET_GONE, -ESRCH, "task %d has ended", tid);
	if (!*ret)
		return ckpt_fail(err, E_KERNEL, -ENOSYS, "/proc/%d/status has no NSpid", pid);
	if (ret_nested)
		*ret_nested = nested;
	return 0;
}

static int pid_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int pid_push(struct proc_pids *l, int pid, struct ckpt_err *err)
{
	int *slot = vec_push(l);

	if (!slot)
		return ckpt_oom(err);
	*slot = pid;
	return 0;
}

int proc_threads(int pid, struct proc_pids *ret, struct ckpt_err *err)
{
	struct proc_pids list = { 0 };
	char path[64];
	auto_dir DIR *d = NULL;
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	if (!d)
		return fail_proc(err, pid, "task", -errno);
	while ((e = readdir(d))) {
		if (isdigit((unsigned char)e->d_name[0]) && pid_push(&list, atoi(e->d_name), err)) {
			vec_free(&list);
			return err->code;
		}
	}
	if (list.n)
		qsort(list.v, list.n, sizeof(int), pid_cmp);
	/* Numbers start again at the bottom: a thread's may be below that of its process. */
	for (size_t i = 1; i < list.n; i++) {
		if (list.v[i] != pid)
			continue;
		memmove(list.v + 1, list.v, i * sizeof(int));
		list.v[0] = pid;
		break;
	}
	*ret = list;
	return 0;
}

static int children_of_thread(int pid, int tid, struct proc_pids *list, struct ckpt_err *err)
{
	auto_free char *buf = NULL;
	char name[64], *p, *end;
	struct ckpt_err ignore = { 0 };
	int rc = 0;

	(void)snprintf(name, sizeof(name), "task/%d/children", tid);
	if (proc_read(pid, name, &buf, NULL, &ignore))
		return 0; /* a thread that has just ended */
	for (p = buf; !rc; p = end) {
		long v = strtol(p, &end, 10);

		if (end == p)
			break;
		rc = pid_push(list, (int)v, err);
	}
	return rc;
}

/* Ask every process who its parent is. */
static int children_by_parent(int pid, struct proc_pids *list, struct ckpt_err *err)
{
	auto_dir DIR *d = opendir("/proc");
	struct dirent *e;
	int rc = d ? 0 : fail_proc(err, pid, "..", -errno);

	while (!rc && (e = readdir(d))) {
		struct ckpt_err gone = { 0 };
		struct proc_stat st;

		if (isdigit((unsigned char)e->d_name[0]) &&
		    !proc_stat_read(atoi(e->d_name), &st, &gone) && st.ppid == pid)
			rc = pid_push(list, st.pid, err);
	}
	return rc;
}

/* Subdirectories of a directory in /proc, from its number of links. */
static unsigned long proc_links(const char *path)
{
	struct stat st;

	return stat(path, &st) || st.st_nlink < 3 ? 0 : st.st_nlink - 2;
}

size_t proc_thread_count(int pid)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	return proc_links(path);
}

int proc_children(int pid, const struct proc_pids *threads, struct proc_pids *ret,
		  struct ckpt_err *err)
{
	struct proc_pids list = { 0 }, looked_up = { 0 };
	size_t n = threads ? threads->n : proc_thread_count(pid);
	int rc = 0;

	/* Every thread has a list of its own: there may be fewer processes on this machine. */
	if (n > MANY_THREADS && n > proc_links("/proc")) {
		rc = children_by_parent(pid, &list, err);
		n = 0;
	} else if (n == 1) {
		rc = children_of_thread(pid, threads ? threads->v[0] : pid, &list, err);
		n = 0;
	} else if (!threads) {
		rc = proc_threads(pid, &looked_up, err);
		threads = &looked_up;
		n = looked_up.n;
	}
	for (size_t i = 0; !rc && i < n; i++)
		rc = children_of_thread(pid, threads->v[i], &list, err);
	vec_free(&looked_up);
	if (rc) {
		vec_free(&list);
		return rc;
	}
	if (list.n)
		qsort(list.v, list.n, sizeof(int), pid_cmp);
	*ret = list;
	return 0;
}

int proc_live(int pid)
{
	struct proc_pids tids = { 0 };
	struct ckpt_err gone = { 0 };
	struct proc_stat st;
	int ret = 0;

	if (proc_stat_read(pid, &st, &gone))
		return 0;
	if (st.state != 'Z' && st.state != 'X')
		return pid;
	if (st.num_threads < 2 || proc_threads(pid, &tids, &gone))
		return 0;
	/* Each thread has a directory of its own below /proc; only the list of it leaves them out.
	 */
	for (size_t i = 1; !ret && i < tids.n; i++)
		if (!proc_stat_read(tids.v[i], &st, &gone) && st.state != 'Z' && st.state != 'X' &&
		    !(st.flags & PROC_PF_EXITING))
			ret = tids.v[i];
	vec_free(&tids);
	return ret;
}
