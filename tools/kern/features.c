// SPDX-License-Identifier: GPL-2.0-only
#include "kern/features.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/netlock.h"
#include "kern/pagemap.h"
#include "kern/procfs.h"
#include "kern/vmaiter.h"

static bool have_cap(int cap)
{
	cap_t c = cap_get_proc();
	cap_flag_value_t v = CAP_CLEAR;

	if (c && cap_get_flag(c, cap, CAP_EFFECTIVE, &v))
		v = CAP_CLEAR;
	if (c)
		(void)cap_free(c);
	return v == CAP_SET;
}

static bool probe_root(void)
{
	return geteuid() == 0 && have_cap(CAP_SYS_PTRACE) && have_cap(CAP_SYS_ADMIN);
}

static bool probe_kcmp(void)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0) == 0;
}

static bool probe_map_files(void)
{
	long page = sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd;

	if (p == MAP_FAILED)
		return false;
	fd = proc_map_open(0, (uintptr_t)p, (uintptr_t)p + (uint64_t)page, O_RDWR);
	(void)munmap(p, (size_t)page);
	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

static bool probe_tid_address(void)
{
	int *p = NULL;

	return !prctl(PR_GET_TID_ADDRESS, &p);
}

static bool probe_getfd(void)
{
	auto_fd pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	auto_fd fd = pidfd >= 0 ? (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0) : -1;

	return fd >= 0;
}

/* A child with a number of our choice: our own is taken, so EEXIST says the call is understood. */
static bool probe_set_tid(void)
{
	pid_t want = getpid();
	struct clone_args args = { .exit_signal = SIGCHLD,
				   .set_tid = (uint64_t)&want,
				   .set_tid_size = 1 };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		(void)waitpid((pid_t)pid, NULL, 0);
	return pid > 0 || errno == EEXIST;
}

static bool probe_scan(void)
{
	struct pagemap pm;
	bool ok;

	if (pagemap_open(&pm, getpid()))
		return false;
	ok = pm.scan;
	pagemap_close(&pm);
	return ok;
}

static bool probe_vma_iter(void)
{
	struct btf types = { 0 };
	struct vma_iter it;
	bool ok = vma_iter_open(&it, &types) == 0;

	vma_iter_close(&it);
	btf_free(&types);
	return ok;
}

static bool probe_soft_dirty(void)
{
	/* The bit of a page that was just written. */
	volatile char page[4096] __attribute__((aligned(4096)));
	uint64_t e = 0;
	auto_fd fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	page[0] = 1;
	if (fd < 0 || pread(fd, &e, 8, (off_t)((uintptr_t)page / 4096 * 8)) != 8)
		return false;
	return (e >> 55) & 1;
}

static bool probe_module(void)
{
	return access("/sys/kernel/ckpt", F_OK) == 0;
}

static bool probe_io_uring(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(2, &ring, 0))
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

static bool probe_resource(void)
{
	return have_cap(CAP_SYS_RESOURCE);
}

static bool probe_tcp_repair(void)
{
	auto_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	return fd >= 0 && !setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on));
}

static bool probe_network_lock(void)
{
	return netlock_probe() == 0;
}

static bool probe_timens(void)
{
	return access("/proc/self/ns/time", F_OK) == 0;
}

static const struct {
	const char *name;
	bool (*probe)(void);
	bool required;
	const char *what, *without;
} probes[] = {
	{ "privileges", probe_root, true, "root with CAP_SYS_PTRACE and CAP_SYS_ADMIN",
	  "run ckpt as root" },
	{ "kcmp", probe_kcmp, true, "tells which descriptors are shared", "needs CONFIG_KCMP" },
	{ "map_files", probe_map_files, true, "reaches the files behind mappings",
	  "needs CONFIG_CHECKPOINT_RESTORE" },
	{ "tid_address", probe_tid_address, true, "reads clear_child_tid",
	  "needs CONFIG_CHECKPOINT_RESTORE" },
	{ "pidfd_getfd", probe_getfd, true, "takes a copy of a descriptor", "needs Linux 5.6" },
	{ "set_tid", probe_set_tid, true, "restores the same pids",
	  "needs Linux 5.5 and CAP_CHECKPOINT_RESTORE" },
	{ "pagemap_scan", probe_scan, false, "finds pages quickly, tracks writes",
	  "pages are found more slowly (Linux 6.7)" },
	{ "vma_iterator", probe_vma_iter, false, "tells flags of mappings without counting pages",
	  "smaps is read instead, 12 ms per GiB (BPF and CONFIG_DEBUG_INFO_BTF)" },
	{ "soft_dirty", probe_soft_dirty, false, "tracks writes without the module",
	  "not in this kernel" },
	{ "module", probe_module, false, "ckpt.ko is loaded",
	  "increments cost a scan of all pages" },
	{ "io_uring", probe_io_uring, false, "batches the I/O of images",
	  "plain reads and writes are used" },
	{ "tcp_repair", probe_tcp_repair, false, "reads and makes TCP connections (--tcp keep)",
	  "needs CONFIG_CHECKPOINT_RESTORE and CAP_NET_ADMIN" },
	{ "network_lock", probe_network_lock, false, "holds back their packets meanwhile",
	  "--tcp keep needs CONFIG_NF_TABLES_INET and CAP_NET_ADMIN" },
	{ "time_namespaces", probe_timens, false, "keeps monotonic clocks going",
	  "clocks jump when the machine changes" },
	{ "cap_sys_resource", probe_resource, false, "raises hard limits, lowers oom_score_adj",
	  "hard limits above ckpt's own and lowered oom_score_adj are not restored" },
};

size_t kern_features(struct kern_feature *ret)
{
	size_t n = sizeof(probes) / sizeof(probes[0]);

	for (size_t i = 0; i < n; i++)
		ret[i] = (struct kern_feature) { probes[i].name, probes[i].probe(),
						 probes[i].required, probes[i].what,
						 probes[i].without };
	return n;
}
