/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the memory tests share: patterns that tell which page is where, questions to smaps and
 * pagemap, and children that wait to be asked. Knows nothing of ckpt.
 */
#ifndef CKPT_TESTS_VMA_H
#define CKPT_TESTS_VMA_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define PG 4096UL
#define MIB (1UL << 20)
#define GIB (1UL << 30)
#define TIB (1UL << 40)

/** Ends the test with the failed call's name; for set-up that must work everywhere. */
#define VMA_NEED(cond)                                                             \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__,     \
				#cond, strerror(errno));                           \
			exit(2);                                                   \
		}                                                                  \
	} while (0)

/** Maps @len bytes of memory; @flags is MAP_PRIVATE or MAP_SHARED with what else is wanted. */
static inline unsigned char *vma_map(size_t len, int prot, int flags)
{
	void *p = mmap(NULL, len, prot, flags | MAP_ANONYMOUS, -1, 0);

	VMA_NEED(p != MAP_FAILED);
	return p;
}

/** Maps @len bytes with an inaccessible page on both sides, so that nothing merges with them. */
static inline unsigned char *vma_map_apart(size_t len, int prot, int flags)
{
	unsigned char *p = vma_map(len + 2 * PG, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);

	VMA_NEED(mmap(p + PG, len, prot, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	return p + PG;
}

static inline uint64_t vma_word(uint64_t seed, size_t i)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + i * 0xbf58476d1ce4e5b9ULL + 1;

	x ^= x >> 29;
	x *= 0x94d049bb133111ebULL;
	return x ^ (x >> 32);
}

/** Fills @len bytes with words that depend on @seed and their place. */
static inline void vma_fill(void *p, size_t len, uint64_t seed)
{
	uint64_t *w = p;

	for (size_t i = 0; i < len / sizeof(*w); i++)
		w[i] = vma_word(seed, i);
}

/** Returns the offset of the first byte that is not what vma_fill() wrote, or -1. */
static inline long vma_differs(const void *p, size_t len, uint64_t seed)
{
	const volatile uint64_t *w = p;

	for (size_t i = 0; i < len / sizeof(*w); i++)
		if (w[i] != vma_word(seed, i))
			return (long)(i * sizeof(*w));
	return -1;
}

/** Returns the offset of the first byte that is not zero, or -1. */
static inline long vma_nonzero(const void *p, size_t len)
{
	const volatile uint64_t *w = p;

	for (size_t i = 0; i < len / sizeof(*w); i++)
		if (w[i])
			return (long)(i * sizeof(*w));
	return -1;
}

/** Creates file @path with @len bytes of pattern @seed and returns it open. */
static inline int vma_file(const char *path, size_t len, uint64_t seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char *buf = malloc(len);

	VMA_NEED(fd >= 0 && buf);
	vma_fill(buf, len, seed);
	VMA_NEED(pwrite(fd, buf, len, 0) == (ssize_t)len);
	free(buf);
	return fd;
}

static inline void vma_copy(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);

	memcpy(to, from, n);
	to[n] = 0;
}

/** Copies the line of /proc/self/maps that holds @addr (without newline) to @ret_line. */
static inline bool vma_line(const void *addr, char *ret_line, size_t size)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char buf[5000];
	bool found = false;

	VMA_NEED(f);
	while (!found && fgets(buf, sizeof(buf), f)) {
		unsigned long lo, hi;

		if (sscanf(buf, "%lx-%lx", &lo, &hi) == 2 && (unsigned long)addr >= lo &&
		    (unsigned long)addr < hi) {
			buf[strcspn(buf, "\n")] = 0;
			vma_copy(ret_line, size, buf);
			found = true;
		}
	}
	fclose(f);
	return found;
}

/** Copies the line "@key: …" of the mapping that holds @addr in /proc/self/smaps. */
static inline bool vma_smaps(const void *addr, const char *key, char *ret_value, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char buf[5000];
	bool inside = false, found = false;
	size_t n = strlen(key);

	VMA_NEED(f);
	while (!found && fgets(buf, sizeof(buf), f)) {
		unsigned long lo, hi;

		if (sscanf(buf, "%lx-%lx ", &lo, &hi) == 2)
			inside = (unsigned long)addr >= lo && (unsigned long)addr < hi;
		else if (inside && !strncmp(buf, key, n) && buf[n] == ':') {
			buf[strcspn(buf, "\n")] = 0;
			vma_copy(ret_value, size, buf + n + 1);
			found = true;
		}
	}
	fclose(f);
	return found;
}

/** True when the mapping of @addr carries the two-letter VmFlags mnemonic @flag. */
static inline bool vma_flag(const void *addr, const char *flag)
{
	char flags[300], want[8];

	if (!vma_smaps(addr, "VmFlags", flags, sizeof(flags)))
		return false;
	strcat(flags, " ");
	snprintf(want, sizeof(want), " %s ", flag);
	return strstr(flags, want);
}

/** A size of smaps in KiB ("Rss", "Pss", "AnonHugePages"), or -1. */
static inline long vma_kib(const void *addr, const char *key)
{
	char value[100];

	return vma_smaps(addr, key, value, sizeof(value)) ? atol(value) : -1;
}

#define VMA_PM_PRESENT (1ULL << 63)
#define VMA_PM_SWAP (1ULL << 62)
#define VMA_PM_FILE (1ULL << 61)
#define VMA_PM_PFN ((1ULL << 55) - 1)

/** The pagemap entry of @addr in process @pid. */
static inline uint64_t vma_pagemap(pid_t pid, const void *addr)
{
	char path[64];
	uint64_t e = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	VMA_NEED(fd >= 0);
	VMA_NEED(pread(fd, &e, sizeof(e), (off_t)((unsigned long)addr / PG * sizeof(e))) == sizeof(e));
	close(fd);
	return e;
}

/** True when a page is there: in memory or in swap. */
static inline bool vma_present(const void *addr)
{
	return vma_pagemap(getpid(), addr) & (VMA_PM_PRESENT | VMA_PM_SWAP);
}

/** True when the kernel can read a byte at @addr, asked without a fault of our own. */
static inline bool vma_readable(const void *addr)
{
	int p[2];
	bool ok;

	VMA_NEED(pipe2(p, O_CLOEXEC) == 0);
	ok = write(p[1], addr, 1) == 1;
	close(p[0]);
	close(p[1]);
	return ok;
}

/**
 * Forks a child that sleeps until vma_child_ask() and then exits with @answer(@arg): 0 means all
 * was right. Children talk by signals alone, so that a memory test needs no other kind.
 */
static inline pid_t vma_child(int (*setup)(void *), int (*answer)(void *), void *arg)
{
	sigset_t usr, old;
	siginfo_t si;
	pid_t pid, parent = getpid();

	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	sigaddset(&usr, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usr, &old);
	pid = fork();
	VMA_NEED(pid >= 0);
	if (pid == 0) {
		int code = setup ? setup(arg) : 0;

		if (code)
			_exit(code);
		kill(parent, SIGUSR2);
		sigdelset(&usr, SIGUSR2);
		while (sigwaitinfo(&usr, &si) != SIGUSR1)
			;
		_exit(answer(arg));
	}
	sigdelset(&usr, SIGUSR1);
	sigaddset(&usr, SIGCHLD);
	sigprocmask(SIG_BLOCK, &usr, NULL);
	for (;;) {
		int sig = sigwaitinfo(&usr, &si);

		if (sig == SIGUSR2 && si.si_pid == pid)
			break;
		if (sig == SIGCHLD && si.si_pid == pid) {
			fprintf(stderr, "child's set-up ended with status %d\n", si.si_status);
			exit(2);
		}
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid;
}

/** Tells child @pid to verify itself; returns its exit code, or 128 + signal. */
static inline int vma_child_ask(pid_t pid)
{
	int st;

	if (kill(pid, SIGUSR1) < 0)
		return 126;
	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return 127;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

#endif
