/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The registry of kinds: what a descriptor, a mapping or an aspect of a task can
 * be. One kind is one file that holds its dump and, directly below, its
 * restore. docs/adding-a-kind.md walks through one.
 *
 * Every kind has a protobuf message. The framework allocates it, the kind's
 * dump fills it (strings and bytes with malloc, they are freed with the
 * message), restore gets it back checked against nothing but protobuf's own
 * rules: bounds are the kind's to check.
 */
#ifndef CKPT_KIND_KIND_H
#define CKPT_KIND_KIND_H

#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/ui.h"
#include "core.pb-c.h"
#include "image/pack.h"
#include "kern/netlock.h"
#include "kern/nsenter.h"
#include "kern/procfs.h"
#include "kern/procview.h"
#include "kern/sockdiag.h"
#include "kern/target.h"
#include "kern/taskiter.h"
#include "model/arena.h"

struct dump_ctx;    /* dump/dump.h: what the kinds may ask of a dump, below */
struct restore_ctx; /* restore/restore.h */

enum ckpt_tcp { CKPT_TCP_REFUSE, CKPT_TCP_CLOSE, CKPT_TCP_KEEP };

/* ---- file descriptors ------------------------------------------------------------------- */

/* What is known of a descriptor before a kind looks at it. */
struct fd_facts {
	int pid;
	int fd;             /* -1: an object behind a mapping */
	int local;          /* the same open file description in ckpt, or -1 before a freeze */
	const char *link;   /* /proc/PID/fd/N */
	const char *fdinfo; /* /proc/PID/fdinfo/N, "" for a mapping */
	struct stat st;
	uint32_t flags; /* F_GETFL */
	uint64_t pos;
	bool cloexec;
	bool named; /* it was looked up just now: link leads to it */
	/* Of a socket, or -1: SO_DOMAIN; of an IP socket, or -1: SO_PROTOCOL, and of a TCP one the
	 * state (tcp_info) that it had. */
	int family, protocol, tcp_state;
	/* Of a TCP socket: what the kernel's own record of it holds; then fdinfo is "". Or NULL. */
	const struct file_view *view;
};

/* A lock that has nothing but idle ports is not needed. */
enum fd_lock { FD_LOCK_NONE, FD_LOCK_IDLE, FD_LOCK_ALIVE };

/* A description that was dumped, but for what is done of several at once. */
struct fd_dumped {
	int local;
	void *msg;
};

struct fd_kind {
	const char *name; /* "pipe": also the State.kind in the image */
	const ProtobufCMessageDescriptor *desc;
	/* Exactly one kind answers true for any descriptor it can represent. */
	bool (*match)(const struct fd_facts *f);
	/* Before a freeze, on the live target: refuse what is knowable. May be NULL. f->local
	 * may be -1. Called again by the framework right before dump. */
	int (*check)(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err);
	/* Called once per open file description while the tree is frozen. */
	int (*dump)(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		    struct ckpt_err *err);
	/* After dump, of several at once: what costs more to begin than to do. A failure is that of
	 * *ret_at. May be NULL; not with dump_late. */
	int (*dump_together)(const struct fd_dumped *v, size_t n, size_t *ret_at,
			     struct ckpt_err *err);
	/* After every descriptor of every task was dumped. May be NULL. */
	int (*dump_late)(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			 struct ckpt_err *err);
	/* Made only when another object or a mapping asks for it. */
	bool on_demand;
	/* With f->named, f->local may be -1. */
	bool by_name;
	/* Make the open file description in ckpt. Status flags and owner are the framework's. */
	int (*restore)(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int *ret_fd,
		       struct ckpt_err *err);
	/*
	 * For a peer that has its contents before the rest of the image is known (tools/migrate).
	 * foresee: is an object of this kind saved for the file @f, which a running program has
	 * open or mapped? Then the message as dump would fill it: 1; 0 no; -errno. early: make it,
	 * empty. fits: can what was made of @was become @msg? early_end: its contents are not
	 * needed any more, or (not @lives) it was of no use. All NULL, or foresee, early and fits.
	 */
	int (*foresee)(const struct fd_facts *f, void *msg);
	int (*early)(struct restore_ctx *r, const void *msg, int *ret_fd, struct ckpt_err *err);
	bool (*fits)(const void *was, const void *msg);
	void (*early_end)(const void *was, bool lives);
	/* All objects and all tasks exist, nothing runs yet; f is ckpt's own copy. May be NULL. */
	int (*finish)(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
		      struct ckpt_err *err);
	/* Its addresses are here, and the network lock still holds: too late to fail. As release.
	 * How many connections are lost. May be NULL. */
	size_t (*arrive)(const Ckpt__Object *obj, const void *msg, int fd);
	/* The network lock is open and the program is about to run: too late to fail. In a process
	 * that shares ckpt's memory. May be NULL. */
	void (*release)(const Ckpt__Object *obj, const void *msg, int fd);
	/* What the network lock has to hold back until then. May be NULL. */
	enum fd_lock (*lock)(const void *msg, struct netlock_conn *ret);
	/* Steps in the first task that holds it at @fdnum, after all its descriptors are in place
	 * (epoll needs numbers, a terminal needs its session). May be NULL. */
	int (*plan)(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fdnum,
		    const Ckpt__Task *task, const Ckpt__FdTable *table, struct steps *s,
		    struct ckpt_err *err);
	/* What the message says it is called; the caller may hand over another one in its place.
	 * NULL: cannot be replaced. */
	const char *(*called)(const void *msg);
	bool plan_each; /* plan is called in every task that holds it, and for every number */
	bool plan_late; /* and when the threads of the task exist, too */
};

extern const struct fd_kind *const fd_kinds[]; /* NULL-terminated; tools/kind/registry.c */

/* ---- mappings --------------------------------------------------------------------------- */

struct vma_kind {
	const char *name;
	bool (*match)(const struct proc_vma *v);
	int (*check)(struct dump_ctx *d, const struct target_task *task, const struct proc_vma *v,
		     struct ckpt_err *err); /* may be NULL */
	/* Fills kind-specific fields: object, state. The common ones are filled. */
	int (*dump)(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
		    Ckpt__Vma *vma, struct ckpt_err *err); /* may be NULL */
	/* Steps that map it at its address, writable enough to be filled; the framework sets
	 * protection and madvise state afterwards. */
	int (*plan)(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Vma *vma,
		    struct steps *s, struct ckpt_err *err);
	bool private_pages; /* its anonymous pages belong to the address space and are saved */
	bool backed;        /* where it has none its object shows */
	bool keep_prot;     /* the framework must not mprotect or madvise it (vDSO) */
	bool inherits;      /* a forked child may go on with its parent's mapping */
};

extern const struct vma_kind *const vma_kinds[];

/* ---- aspects of tasks and threads ------------------------------------------------------- */

enum task_scope { SCOPE_TASK, SCOPE_THREAD };
/* Where in a task's list its steps go. */
enum task_phase {
	PHASE_MM,     /* memory is complete, descriptors are still ckpt's */
	PHASE_FS,     /* the same, and nobody needs ckpt's directories any longer */
	PHASE_TASK,   /* descriptors are in place; other threads do not exist yet */
	PHASE_THREAD, /* in each thread */
	PHASE_CREDS,  /* in each thread: drops privileges */
	PHASE_LAST,   /* in each thread: works without privileges */
};

struct task_facts {
	struct target_task *task;
	struct target_thread *thread;
	const char *status; /* /proc/PID/task/TID/status */
	const struct proc_stat *stat;
	/* What the kernel's own record of it holds; then it is not asked, and status is NULL. */
	const struct thread_view *view;
	/* The same of the process, for its main thread: both are there, and status is, too. */
	const struct proc_view *process;
	const struct process_traits *traits;
	bool main; /* the main thread */
};

/* What the records of a process tell in bits whose meaning is the kernel's: another time when it
 * had the same, it said this. */
struct process_traits {
	uint32_t dumpable, mce_kill, tsc, thp_disable;
	bool memory_merge, child_subreaper;
};

struct task_kind {
	const char *name;
	const ProtobufCMessageDescriptor *desc;
	enum task_scope scope;
	enum task_phase phase;
	/* Refuse before a freeze, by f->status or f->view; may be NULL. */
	int (*check)(struct dump_ctx *d, const struct task_facts *f, struct ckpt_err *err);
	/* Add steps whose answers dump wants; *priv (PRIV_WORDS words, zeroed) keeps their
	 * numbers or the room given by steps_room() until then. May be NULL. */
	int (*ask)(struct dump_ctx *d, const struct task_facts *f, struct steps *s, uint64_t *priv,
		   struct ckpt_err *err);
	/* Is that of thread @b the same as that of @a, by what the kernel's record of both holds?
	 * Then what @a said is saved of both. May be NULL, for scope THREAD: dump knows how to
	 * read f->view. */
	bool (*alike)(const struct thread_view *a, const struct thread_view *b);
	/* Fill the message; @slot holds the answers, or f->view and f->process. Return 1 for
	 * "nothing worth saving". */
	int (*dump)(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		    const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		    struct ckpt_err *err);
	/* Also of a first thread that has ended while others go on; nothing was asked: @slot is
	 * NULL and f->thread has a number only. */
	bool of_ended;
	/* Steps that put it back. @thread is the main thread for SCOPE_TASK. */
	int (*plan)(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		    const void *msg, struct steps *s, struct ckpt_err *err);
};
#define TASK_KIND_PRIV_WORDS 8

extern const struct task_kind *const task_kinds[];

/* ---- what kinds may ask of a dump (tools/dump) ------------------------------------------- */

/* The object for an open file description of the target, dumped at first sight. */
int dump_object_fd(struct dump_ctx *d, int pid, int fd, uint32_t *ret_id,
		   struct ckpt_err *err) __must_check;
/* Id of an already dumped description equal to @pid's @fd (kcmp); 0 when there is none. */
uint32_t dump_object_find(struct dump_ctx *d, int pid, int fd);
/* The object for the file behind a mapping; the same file and access give the same object. */
int dump_object_mapped(struct dump_ctx *d, int pid, const struct proc_vma *v, uint32_t *ret_id,
		       struct ckpt_err *err) __must_check;
/* The object for what /proc/PID/NAME links to (exe, cwd, root), opened with @flags. */
int dump_object_link(struct dump_ctx *d, int pid, const char *name, int flags, uint32_t *ret_id,
		     struct ckpt_err *err) __must_check;
/* An object by (kind, key): the first call makes it and sets *ret_new; then fill it with
 * dump_object_set(). For things that several descriptors or mappings share, like shared memory. */
int dump_object_keyed(struct dump_ctx *d, const char *kind, uint64_t key1, uint64_t key2,
		      Ckpt__Object **ret, bool *ret_new, struct ckpt_err *err) __must_check;
/* Pack @msg as the object's state of @kind. */
int dump_object_set(Ckpt__Object *obj, const char *kind, const ProtobufCMessage *msg,
		    struct ckpt_err *err) __must_check;
/* Save the contents of @local (a file with holes, @bytes long) as the object's pages. Takes
 * its own duplicate of the descriptor. */
int dump_object_pages(struct dump_ctx *d, Ckpt__Object *obj, int local, uint64_t bytes,
		      struct ckpt_err *err) __must_check;
/* Somebody of the tree has a descriptor of @object, and may write by it. */
void dump_object_opened(struct dump_ctx *d, uint32_t object);
/* Is the mapping write-protected by a userfaultfd of ckpt's own tracking, and of nobody else? */
bool dump_owns_uffd(struct dump_ctx *d, int pid, const struct proc_vma *v);
bool dump_has_pid(const struct dump_ctx *d, int pid); /* is it (as ckpt sees it) in the tree? */
/* Does it share its directories with a task before it, of which they are saved? */
bool dump_shares_fs(const struct dump_ctx *d, const struct target_task *task);
/* Has the first thread of its parent ended, while others go on? */
bool dump_parent_headless(const struct dump_ctx *d, const struct target_task *task);
int dump_vpid(const struct dump_ctx *d, int pid); /* its pid in the image; 0 when outside */
/* The same for pids that are only remembered: one outside keeps its number unless pids are nested.
 */
int dump_pid_image(const struct dump_ctx *d, int pid);
/* The next object after *id that is an open file of this device and inode; false at the end. */
bool dump_object_next(struct dump_ctx *d, dev_t dev, ino_t ino, uint32_t *id, int *ret_pid,
		      int *ret_fd);
/* The one that is this inode of a socket, which has no more than one description; 0: none. */
uint32_t dump_object_socket(struct dump_ctx *d, dev_t dev, ino_t ino);
uint32_t dump_object_flags(const struct dump_ctx *d, uint32_t id); /* its F_GETFL */
/* Is it the main thread of a process of the tree? Also before the freeze. */
bool dump_tree_has_pid(const struct dump_ctx *d, int pid);
/* Are descriptors on their way in a socket of the tree? Then more belongs to it than processes
 * hold. */
bool dump_tree_sends_fds(struct dump_ctx *d);
/* Keep @fd open until the dump is over. Takes it over, also on failure. */
int dump_keep_fd(struct dump_ctx *d, int fd, struct ckpt_err *err) __must_check;
/* How the tree holds the socket or pipe of this inode: bits; 0 not at all. Also before the freeze.
 */
enum { DUMP_ANON_READ = 1, DUMP_ANON_WRITE = 2 };
unsigned int dump_tree_anon(struct dump_ctx *d, ino_t ino);
/* Does it hold the master of this pseudo-terminal? */
bool dump_tree_has_master(struct dump_ctx *d, int index);
/* All AF_UNIX sockets, asked for once. */
int dump_unix_diags(struct dump_ctx *d, const struct unix_diags **ret,
		    struct ckpt_err *err) __must_check;
/* What new sockets are like, by what they are; made and filled by fd/sockopt.c. */
struct sockopt_defaults;
struct sockopt_defaults **dump_sockopt_defaults(struct dump_ctx *d, pthread_mutex_t **ret_lock);
/* Sockets of this dump whose options were asked for, and what was found out of where options are.
 */
struct sockopts_asked;
struct sockopts_asked **dump_sockopts_asked(struct dump_ctx *d);
struct sockopt_places;
const struct sockopt_places *dump_sockopt_places(const struct dump_ctx *d);
/* The options of the socket that is being saved, if they were read ahead: now the caller's. */
struct Ckpt__SockOpts;
struct Ckpt__SockOpts *dump_sockopts_ahead(struct dump_ctx *d, int fd);
/* @fd is a connection of the tree that was saved: when the tree is ended it must go silently. Takes
 * a duplicate if need be. */
int dump_net_conn(struct dump_ctx *d, int fd, struct ckpt_err *err) __must_check;
/* The other end of a TCP socket that is about to connect, which only the kernel knows: its length
 * in @ret (a struct sockaddr_storage), or 0. */
uint32_t dump_net_peer(const struct dump_ctx *d, ino_t ino, void *ret);
/* Are connections that wait at this listener to be taken out of its backlog? Then that is done
 * here: into @m, and back when the tree goes on after all. */
bool dump_net_takes_waiting(struct dump_ctx *d, ino_t ino);
struct Ckpt__FdInet;
int dump_net_waiting(struct dump_ctx *d, int fd, struct Ckpt__FdInet *m,
		     struct ckpt_err *err) __must_check;
const struct ckpt_dump_opts *dump_opts(const struct dump_ctx *d);
struct ckpt_ui *dump_ui(const struct dump_ctx *d);

/* Which namespaces of the tree ckpt had to enter. */
struct dump_ns {
	bool own[NSENTER_TYPES];
};

struct ckpt_dump_opts {
	int pid;
	const char *dir;
	const char *parent;
	enum target_end end;
	enum ckpt_tcp tcp;
	bool store_files;
	uint64_t ghost_limit; /* bytes of an unlinked file that are saved without asking */
	int threads;
	enum pack_how compress; /* how the page file is packed */
	bool track;             /* keep track of what is written from this checkpoint on */
	const char *tracker;    /* name of a back end; NULL: the best there is */
	bool pre;               /* copy memory ahead, while it runs */
	bool no_pre;            /* not even of an increment, where it pays */
	uint64_t max_pause_us;  /* how long it may stand still; 0: as long as it takes */
	bool long_pause;        /* when that is not enough, go on and say so */
	bool last;              /* ckpt ends behind it: what ends by itself is not waited for */
	/* Descriptors that are not saved, by their names in /proc/PID/fd */
	const char *const *external;
	size_t n_external;
	const struct dump_ns *ns;   /* dump_ns_enter()'s; NULL: the tree must be where ckpt is */
	struct dump_series *series; /* dump/dump.h: of a series of checkpoints; NULL */
};

/* ---- what kinds may ask of a restore (tools/restore) --------------------------------------- */

/* ckpt's descriptor for object @id, made now if it was not yet; also its number inside tasks until
 * their own are in place. */
int restore_object_fd(struct restore_ctx *r, uint32_t id, int *ret_fd,
		      struct ckpt_err *err) __must_check;
const Ckpt__Object *restore_object(struct restore_ctx *r, uint32_t id);
/* The kind's message of object @id; NULL with *err set. */
const void *restore_object_msg(struct restore_ctx *r, uint32_t id, struct ckpt_err *err);
/* Object @id was made beside another one (the other end of a pair): here it is. Takes @fd over. */
int restore_object_give(struct restore_ctx *r, uint32_t id, int fd,
			struct ckpt_err *err) __must_check;
/* A descriptor that object @id needs between its restore and its finish; -1 at first, closed at the
 * end. */
int *restore_object_spare(struct restore_ctx *r, uint32_t id);
/* Make @fd the spare one. Takes it over; 0 or -errno. */
int restore_object_keep(struct restore_ctx *r, uint32_t id, int fd) __must_check;
/* Write the object's saved pages into @fd (dump_object_pages). */
int restore_object_pages(struct restore_ctx *r, uint32_t id, int fd,
			 struct ckpt_err *err) __must_check;
/* The same into memory: @bytes that begin as zeros. */
int restore_object_pages_into(struct restore_ctx *r, uint32_t id, void *to, uint64_t bytes,
			      struct ckpt_err *err) __must_check;
/* What was made early for object @id, if @msg fits it: the caller's from now on; -1: make it. Then
 * restore_object_pages() leaves what is right in it, and clears what is not. */
int restore_early_take(struct restore_ctx *r, uint32_t id, const void *msg);
/* Where a task-to-be finds this kernel's mapping @name ("[vdso]", "[vvar]", …) before it is moved
 * into place; false when this kernel has none. */
bool restore_parked(struct restore_ctx *r, const char *name, uint64_t *ret_addr, uint64_t *ret_len);
/* The image is of a kernel with another vDSO: this kernel's mappings stay where they are parked. */
bool restore_vdso_foreign(struct restore_ctx *r);
/* Where in the arena the image's vDSO lies, with its functions sent on to this kernel's. */
int restore_vdso_stubs(struct restore_ctx *r, uint64_t *ret_addr, uint64_t *ret_len,
		       struct ckpt_err *err) __must_check;
bool restore_has_pid(struct restore_ctx *r, int pid);
pid_t restore_root(
	const struct restore_ctx *r); /* the root task as ckpt sees it; 0 before it exists */
const Ckpt__Inventory *restore_inventory(struct restore_ctx *r);
/* Is this the boot that the image was made on? */
bool restore_same_boot(const struct restore_ctx *r);
const struct ckpt_restore_opts *restore_opts(const struct restore_ctx *r);
struct ckpt_ui *restore_ui(const struct restore_ctx *r);

/* Descriptor @fd of the caller for the one that was called @name; -1: one that is closed on its
 * other side. */
struct ckpt_inherit {
	int fd;
	const char *name;
};
#define CKPT_EXTERNAL_MAX 64 /* of either list */

struct ckpt_restore_opts {
	const char *dir;
	bool detach;
	bool pidns;
	bool plan_only;
	bool leave_stopped;
	bool ipc_elsewhere;   /* System V segments that are here are not the program's */
	bool addresses_later; /* addresses come when all is about to run: sockets may name them
				 before */
	const char *pidfile;
	const struct ckpt_inherit *inherit;
	size_t n_inherit;
	const char *join_ns[NSENTER_TYPES]; /* a path or "host"; NULL: as it was */
	const char *cgroup; /* NULL or "keep": as it was; "none": ckpt's; else its path */
};

/* ---- helpers of kind.c --------------------------------------------------------------------- */

/* Allocate and initialise a message of @desc; free with protobuf_c_message_free_unpacked(). */
void *kind_msg_new(const ProtobufCMessageDescriptor *desc);
/* Allocate a State {kind, packed msg}; NULL when out of memory. */
Ckpt__State *kind_state_new(const char *kind, const ProtobufCMessage *msg);
Ckpt__State *kind_state_copy(const Ckpt__State *from);
/* That of @kind among @n; NULL: there is none. */
const Ckpt__State *kind_state_find(Ckpt__State *const *v, size_t n, const char *kind);
/* Unpack @state as @desc; NULL with *err set when it is malformed. */
void *kind_state_unpack(const Ckpt__State *state, const ProtobufCMessageDescriptor *desc,
			struct ckpt_err *err);
const struct fd_kind *fd_kind_by_name(const char *name);
const struct vma_kind *vma_kind_by_name(const char *name);
const struct task_kind *task_kind_by_name(const char *name);
const struct fd_kind *fd_kind_match(const struct fd_facts *f);
const struct vma_kind *vma_kind_match(const struct proc_vma *v);
/* Append to a repeated message field. 0 or -ENOMEM. */
int kind_push(size_t *n, void *array, void *element);
/* The remedy where a program has a ring or a context for asynchronous I/O. Returns err->code. */
int kind_async_io_remedy(struct ckpt_err *err);

#endif
