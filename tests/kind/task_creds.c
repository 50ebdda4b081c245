// SPDX-License-Identifier: GPL-2.0-only
/* Credentials of threads, each with its own: real/effective/saved/fs ids, groups, the five
 * capability sets, securebits, no_new_privs, dumpable, keep-caps. */
#include "t.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

enum { CHOWN = 0, KILL = 5, NET_ADMIN = 12, SYS_ADMIN = 21 };

struct want {
	const char *name;
	uid_t uid[4]; /* real, effective, saved, fs */
	gid_t gid[4];
	size_t ngroups;
	uint64_t inh, amb, bset_drop, perm_drop, eff_drop;
	int securebits, no_new_privs;
};

static const struct want wants[] = {
	{ .name = "root" },
	{ .name = "other ids",
	  .uid = { 1000, 1001, 1002, 1001 },
	  .gid = { 2000, 2001, 2002, 2001 },
	  .ngroups = 3 },
	{ .name = "fsuid apart", .uid = { 0, 0, 0, 1234 }, .gid = { 0, 0, 5, 4321 } },
	{ .name = "many groups", .ngroups = 200 },
	{ .name = "capabilities",
	  .inh = 1ull << KILL | 1ull << CHOWN,
	  .amb = 1ull << KILL,
	  .bset_drop = 1ull << NET_ADMIN,
	  .perm_drop = 1ull << SYS_ADMIN,
	  .eff_drop = 1ull << CHOWN | 1ull << SYS_ADMIN },
	{ .name = "securebits",
	  .securebits = SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
			SECBIT_NOROOT },
	{ .name = "unprivileged with capabilities",
	  .uid = { 3000, 3000, 3000, 3000 },
	  .gid = { 3000, 3000, 3000, 3000 },
	  .ngroups = 1,
	  .inh = 1ull << KILL,
	  .amb = 1ull << KILL,
	  .securebits = SECBIT_KEEP_CAPS,
	  .no_new_privs = 1 },
};

static pthread_barrier_t barrier;

static void caps(bool set, uint64_t *eff, uint64_t *perm, uint64_t *inh)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];

	if (set) {
		for (int i = 0; i < 2; i++) {
			d[i].effective = (uint32_t)(*eff >> 32 * i);
			d[i].permitted = (uint32_t)(*perm >> 32 * i);
			d[i].inheritable = (uint32_t)(*inh >> 32 * i);
		}
		t_sys(syscall(SYS_capset, &h, d));
		return;
	}
	t_sys(syscall(SYS_capget, &h, d));
	*eff = d[0].effective | (uint64_t)d[1].effective << 32;
	*perm = d[0].permitted | (uint64_t)d[1].permitted << 32;
	*inh = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
}

/* All of it as the kernel prints it: lines Uid … NoNewPrivs, without what may differ. */
static void snapshot(char *out, size_t size)
{
	static const char *const keys[] = { "Uid",    "Gid",	"Groups", "CapInh",    "CapPrm",
					    "CapEff", "CapBnd", "CapAmb", "NoNewPrivs" };
	char path[64];

	(void)snprintf(path, sizeof(path), "self/task/%d/status", t_gettid());
	out[0] = 0;
	for (size_t i = 0; i < T_ARRAY_SIZE(keys); i++) {
		size_t n = strlen(out);

		(void)snprintf(out + n, size - n, "%s: %s\n", keys[i], t_proc(path, keys[i]));
	}
	(void)snprintf(out + strlen(out), size - strlen(out), "securebits %#x fsuid %d fsgid %d\n",
		       prctl(PR_GET_SECUREBITS), setfsuid((uid_t)-1), setfsgid((gid_t)-1));
}

static void set_ids(const struct want *w)
{
	gid_t groups[256];

	for (size_t i = 0; i < w->ngroups; i++)
		groups[i] = (gid_t)(10000 + i * 3);
	/* The raw calls: the C library would change all threads. */
	t_sys(syscall(SYS_setgroups, w->ngroups, groups));
	t_sys(syscall(SYS_setresgid, w->gid[0], w->gid[1], w->gid[2]));
	t_sys(syscall(SYS_setresuid, w->uid[0], w->uid[1], w->uid[2]));
	(void)setfsgid(w->gid[3]);
	(void)setfsuid(w->uid[3]);
}

static void *run(void *arg)
{
	const struct want *w = arg;
	static char text[T_ARRAY_SIZE(wants)][2][4096];
	char (*t)[4096] = text[w - wants];
	uint64_t eff, perm, inh;

	for (int c = 0; c < 41; c++)
		if (w->bset_drop >> c & 1)
			t_sys(prctl(PR_CAPBSET_DROP, c));
	if (w->securebits)
		t_sys(prctl(PR_SET_SECUREBITS, w->securebits));
	set_ids(w);
	caps(false, &eff, &perm, &inh);
	if (w->uid[0] == 3000) { /* keep-caps kept the permitted set */
		perm = 1ull << KILL | 1ull << NET_ADMIN;
		eff = 1ull << KILL;
	}
	perm &= ~w->perm_drop;
	eff &= ~w->eff_drop;
	caps(true, &eff, &perm, (uint64_t[]){ w->inh });
	for (int c = 0; c < 41; c++)
		if (w->amb >> c & 1)
			t_sys(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0));
	if (w->no_new_privs)
		t_sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	snapshot(t[0], sizeof(t[0]));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	snapshot(t[1], sizeof(t[1]));
	t_check(strcmp(t[0], t[1]) == 0, "%s:\n%s\nis:\n%s", w->name, t[0], t[1]);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[T_ARRAY_SIZE(wants)];

	t_init(argc, argv);
	t_zero(pthread_barrier_init(&barrier, NULL, T_ARRAY_SIZE(wants) + 1));
	for (size_t i = 0; i < T_ARRAY_SIZE(wants); i++)
		th[i] = t_thread(run, (void *)&wants[i]);
	pthread_barrier_wait(&barrier);
	t_sys(prctl(PR_SET_DUMPABLE, 1));
	t_ready();
	t_check(prctl(PR_GET_DUMPABLE) == 1, "dumpable: %d", prctl(PR_GET_DUMPABLE));
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < T_ARRAY_SIZE(wants); i++)
		t_zero(pthread_join(th[i], NULL));
	return t_done();
}
