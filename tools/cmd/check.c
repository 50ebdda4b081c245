// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include "base/vec.h"
#include "cmd/cmd.h"
#include "dump/dump.h"
#include "kern/features.h"
#include "migrate/migrate.h"
#include "restore/restore.h"

enum {
	OPT_TO = 256,
	OPT_TCP,
	OPT_KEY,
	OPT_INSECURE,
	OPT_EXTERNAL,
	OPT_INHERIT,
	OPT_JOIN,
	OPT_PIDNS
};

static const struct cmd_opt opts[] = {
	{ 't', "pid", "PID", "everything that would stop a dump of this process" },
	{ 'D', "image", "DIR", "everything that would stop a restore of this image" },
	{ OPT_TO, "to", "DEST", "everything that would stop moving --pid there" },
	{ OPT_TCP, "tcp", "keep|close|refuse", "as it would be given to the dump" },
	{ OPT_EXTERNAL, "external", "NAME", "as it would be given to the dump" },
	{ OPT_INHERIT, "inherit-fd", "N:NAME", "as it would be given to the restore" },
	{ OPT_JOIN, "join-ns", "TYPE:PATH", "as it would be given to the restore" },
	{ OPT_PIDNS, "pidns", NULL, "as it would be given to the restore" },
	{ OPT_KEY, "key", "FILE", "with --to: this node's half of ckpt keygen" },
	{ OPT_INSECURE, "insecure", NULL, "with --to: plain TCP" },
	{ 0 },
};

struct findings {
	const struct cmd_common *c;
	struct json_object *list;
	int count;
};

/* @node: where, of a migration; else NULL. */
static void add(struct findings *f, const struct ckpt_err *why, const char *node)
{
	struct json_object *o;

	f->count++;
	if (!f->c->json) {
		printf("%s%s%s: %s%s%s\n", node ? node : "", node ? ": " : "",
		       ckpt_err_name(why->id), why->where, why->where[0] ? ": " : "", why->msg);
		/* What is said by default sends people here. */
		if (why->remedy[0] || why->id != E_UNSUPPORTED)
			printf("  → %s\n", ckpt_err_remedy(why));
		return;
	}
	o = cmd_err_json(why);
	if (node)
		json_object_object_add(o, "node", json_object_new_string(node));
	json_object_array_add(f->list, o);
}

static void found(void *arg, const struct ckpt_err *why)
{
	add(arg, why, NULL);
}

static void found_on(void *arg, const struct ckpt_err *why, bool there)
{
	add(arg, why, there ? "peer" : "source");
}

static int check_migration(struct findings *f, struct migrate_opts *o, struct cmd_common *c,
			   struct ckpt_err *err)
{
	struct migrate_result res;
	char doubt[64] = "";
	int rc;

	o->check_only = true;
	o->blocker = found_on;
	o->arg = f;
	rc = ckpt_migrate(o, &c->ui, &res, doubt, err);
	/* With blockers it ends as refused: they are the answer, not a failure. */
	return f->count ? 0 : rc;
}

static int finish(struct findings *f, const char *ok)
{
	if (f->c->json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "ok", json_object_new_boolean(!f->count));
		json_object_object_add(o, "problems", f->list);
		cmd_print_json(o);
	} else if (!f->count && !f->c->quiet) {
		puts(ok);
	}
	return f->count ? 3 : 0;
}

static int check_kernel(const struct cmd_common *c)
{
	struct json_object *list = json_object_new_array();
	struct kern_feature feats[KERN_FEATURES_MAX];
	size_t n = kern_features(feats);
	bool ok = true;

	for (size_t i = 0; i < n; i++) {
		const struct kern_feature *f = &feats[i];
		struct json_object *o;

		ok &= f->present || !f->required;
		if (!c->json) {
			if (!c->quiet)
				printf("%-8s %-22s %s\n",
				       f->present    ? "yes"
				       : f->required ? "MISSING"
						     : "no",
				       f->name, f->present ? f->what : f->without);
			continue;
		}
		o = json_object_new_object();
		json_object_object_add(o, "name", json_object_new_string(f->name));
		json_object_object_add(o, "present", json_object_new_boolean(f->present));
		json_object_object_add(o, "required", json_object_new_boolean(f->required));
		json_object_object_add(o, "what", json_object_new_string(f->what));
		json_object_object_add(o, "without", json_object_new_string(f->without));
		json_object_array_add(list, o);
	}
	if (c->json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "ok", json_object_new_boolean(ok));
		json_object_object_add(o, "features", list);
		cmd_print_json(o);
	} else {
		json_object_put(list);
		if (!c->quiet)
			puts(ok ? "This kernel can checkpoint and restore."
				: "This kernel cannot checkpoint: what is MISSING above is "
				  "needed.");
	}
	return ok ? 0 : 3;
}

static int check_restore(struct findings *f, const struct ckpt_restore_opts *r,
			 struct cmd_common *c, struct ckpt_err *err)
{
	struct ckpt_err ns = { 0 };

	/* The rest is looked at from where it would be. A directory that is none is told of below.
	 */
	if (restore_ns_enter(r, &ns) && (ns.id == E_EXTERNAL || ns.id == E_RESTORE))
		found(f, &ns);
	return ckpt_restore_check(r, &c->ui, found, f, err);
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct ckpt_dump_opts d = { .ghost_limit = 64u << 20, .threads = 1 };
	struct ckpt_restore_opts r = { 0 };
	struct migrate_opts m = { 0 };
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	struct findings f = { .c = &c };
	const char *external[CKPT_EXTERNAL_MAX];
	struct ckpt_inherit inherit[CKPT_EXTERNAL_MAX];
	struct dump_ns ns = { 0 };
	int key, rc;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 't' && !cmd_pid(optarg, &d.pid))
			return cmd_usage(cmd, "\"%s\" is not a process id", optarg);
		if (key == 'D')
			r.dir = optarg;
		if (key == OPT_TO)
			m.to = optarg;
		if (key == OPT_TCP && !cmd_tcp(optarg, &d.tcp))
			return cmd_usage(cmd, "--tcp takes keep, close or refuse, not \"%s\"",
					 optarg);
		if (key == OPT_EXTERNAL && !cmd_list(optarg, external, &d.n_external))
			return cmd_usage(cmd, "--external is given too often");
		if (key == OPT_INHERIT && (r.n_inherit == CKPT_EXTERNAL_MAX ||
					   !cmd_inherit(optarg, &inherit[r.n_inherit++])))
			return cmd_usage(cmd,
					 "--inherit-fd takes N:NAME or closed:NAME, not \"%s\"",
					 optarg);
		if (key == OPT_JOIN && !cmd_join(optarg, &r))
			return cmd_usage(
				cmd, "--join-ns takes net:PATH, uts:PATH or ipc:PATH, not \"%s\"",
				optarg);
		if (key == OPT_PIDNS)
			r.pidns = true;
		if (key == OPT_KEY)
			m.auth.key = optarg;
		if (key == OPT_INSECURE)
			m.auth.insecure = true;
	}
	d.external = external;
	r.inherit = inherit;
	d.ns = &ns;
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (m.to && !d.pid)
		return cmd_usage(cmd, "--to needs --pid: which process would move");
	if (!d.pid && !r.dir)
		return check_kernel(&c);
	f.list = json_object_new_array();
	if (d.pid && !m.to)
		dump_ns_enter(d.pid, &ns);
	m.pid = d.pid;
	m.tcp = d.tcp;
	rc = m.to    ? check_migration(&f, &m, &c, &err)
	     : d.pid ? ckpt_dump_check(&d, &c.ui, found, &f, &err)
		     : 0;
	if (rc >= 0 && r.dir)
		rc = check_restore(&f, &r, &c, &err);
	if (rc < 0)
		return cmd_fail(&c, &err);
	return finish(&f, m.to    ? "Nothing stops moving this process there."
			  : d.pid ? "Nothing stops a dump of this process."
				  : "Nothing stops a restore of this image.");
}

const struct cmd cmd_check = { "check", "[-t PID [--to DEST]] [-D DIR]",
			       "what would stop a dump, a restore or a migration", opts, run };
