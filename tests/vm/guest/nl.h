/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A generic netlink client of the tests' own: raw sockets and the uapi header,
 * so that a mistake in the tools' client cannot hide one in the module.
 */
#ifndef VM_NL_H
#define VM_NL_H

#include <stddef.h>
#include <stdint.h>
#include <linux/netlink.h>
#include <linux/ckpt.h>

struct nl {
	int fd;
	int family;
	int events_group;
	uint32_t seq;
	uint32_t port;
	char ext[256]; /* text of the last extended acknowledgement */
};

struct vnl_msg {
	_Alignas(NLMSG_ALIGNTO) unsigned char buf[4096];
	size_t len;
};

/* One track's answer to ARM or COLLECT. */
struct vnl_result {
	uint32_t track;
	int32_t pid;
	uint32_t flags;
	uint64_t epoch;
	uint64_t pages;
	uint64_t nruns;
	uint64_t wall_ns;
	struct ckpt_run *runs; /* vnl_runs() fills it; free() */
};

int vnl_open(struct nl *nl); /* 0 or -errno; -ENOENT: no such family */
void vnl_close(struct nl *nl);

void vnl_begin(struct nl *nl, struct vnl_msg *m, int cmd, int flags);
void vnl_put(struct vnl_msg *m, int attr, const void *data, size_t len);
void vnl_put_u32(struct vnl_msg *m, int attr, uint32_t value);
/* Send, and call @fn for each answer. Returns 0 or the kernel's -errno. */
int vnl_talk(struct nl *nl, struct vnl_msg *m, void (*fn)(const struct nlmsghdr *, void *), void *arg);
const struct nlattr *vnl_attr(const struct nlmsghdr *h, int attr);
uint32_t vnl_u32(const struct nlattr *a);
uint64_t vnl_u64(const struct nlattr *a);

int vnl_session(struct nl *nl, uint32_t flags, uint32_t *ret_session);
int vnl_attach(struct nl *nl, uint32_t session, int32_t pid, uint32_t *ret_track);
/* Both return the number of results or -errno; @max is how many @r can hold. */
int vnl_arm(struct nl *nl, uint32_t session, struct vnl_result *r, int max);
int vnl_collect(struct nl *nl, uint32_t session, uint32_t flags, struct vnl_result *r, int max);
int vnl_runs(struct nl *nl, uint32_t session, struct vnl_result *r);
/* The descriptor of the snapshot that the last collect took, or -errno. */
int vnl_snapshot(struct nl *nl, uint32_t session, uint32_t track, uint64_t *ret_pages,
		 uint64_t *ret_pool);
int vnl_detach(struct nl *nl, uint32_t session, uint32_t track);

#endif
