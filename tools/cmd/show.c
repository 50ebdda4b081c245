// SPDX-License-Identifier: GPL-2.0-only
/* Looking into a checkpoint, and verifying every byte of it. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/vec.h"
#include "cmd/cmd.h"
#include "image/reader.h"
#include "kind/kind.h"

static const struct cmd_opt opts[] = {
	{ 'D', "image", "DIR", "the checkpoint" },
	{ 0 },
};

static const char *task_comm(const Ckpt__Task *t, char *buf, size_t len)
{
	(void)snprintf(buf, len, "?");
	for (size_t i = 0; t->n_threads && i < t->threads[0]->n_state; i++) {
		const Ckpt__State *st = t->threads[0]->state[i];
		struct ckpt_err ignore = { 0 };
		const ProtobufCBinaryData *b;
		ProtobufCMessage *m;

		if (strcmp(st->kind, "comm") != 0)
			continue;
		m = kind_state_unpack(st, task_kind_by_name("comm")->desc, &ignore);
		if (!m)
			break;
		/* The one field of the message is the name's bytes. */
		b = (const void *)((const char *)m + m->descriptor->fields[0].offset);
		(void)snprintf(buf, len, "%.*s", (int)b->len, (const char *)b->data);
		protobuf_c_message_free_unpacked(m, NULL);
	}
	return buf;
}

static void show_tree(const struct image *img, int ppid, int depth)
{
	for (size_t i = 0; i < img->tasks.n; i++) {
		const Ckpt__Task *t = img->tasks.v[i];
		char comm[32];

		if (t->ppid != ppid)
			continue;
		printf("  %*s%d %s", depth * 2, "", t->pid,
		       t->zombie ? "(zombie)" : task_comm(t, comm, sizeof(comm)));
		if (!t->zombie)
			printf("  threads %zu  pgid %d  sid %d  fds %zu  mappings %zu",
			       t->n_threads, t->pgid, t->sid, img->tables.v[t->fdtable - 1]->n_fds,
			       img->mms.v[t->mm - 1]->n_vmas);
		puts("");
		show_tree(img, t->pid, depth + 1);
	}
}

/* What a restore has to be given. */
static void show_external(const struct image *img)
{
	const struct fd_kind *kind = fd_kind_by_name("external");
	struct ckpt_err ignore = { 0 };
	const char *title = "external descriptors, to be handed over at the restore:\n";

	for (size_t i = 0; i < img->objects.n; i++) {
		const Ckpt__State *st = img->objects.v[i]->state;
		ProtobufCMessage *m = strcmp(st->kind, kind->name) != 0
					      ? NULL
					      : kind_state_unpack(st, kind->desc, &ignore);

		if (!m)
			continue;
		printf("%s  --inherit-fd N:'%s'\n", title, kind->called(m));
		title = "";
		protobuf_c_message_free_unpacked(m, NULL);
	}
}

/* Bytes of pages that are in a page file; *ret_elsewhere: those that another checkpoint has. */
static uint64_t memory_of(const struct image *img, uint64_t *ret_elsewhere)
{
	uint64_t all = 0;

	*ret_elsewhere = 0;
	for_each_image_run(r, img->maps)
	{
		uint64_t bytes = r->kind == CKPT_RUN_DATA ? (uint64_t)r->npages * CKPT_PAGE : 0;

		all += bytes;
		if (ckpt_run_source(r->off))
			*ret_elsewhere += bytes;
	}
	return all;
}

static void print_id(const ProtobufCBinaryData *id)
{
	for (size_t i = 0; i < id->len; i++)
		printf("%02x", id->data[i]);
	puts("");
}

static void show_memory(const struct image *img)
{
	uint64_t elsewhere, all = memory_of(img, &elsewhere);
	size_t others = img->chain ? img->chain->n_ancestors : 0;
	char size[16];

	printf("%s of memory", cmd_human(all, size));
	if (others)
		printf(" (%s of it in %zu other checkpoint%s)", cmd_human(elsewhere, size), others,
		       others == 1 ? "" : "s");
}

static void show_summary(const struct image *img)
{
	const Ckpt__Inventory *inv = img->inv;
	time_t at = (time_t)(inv->created_ns / 1000000000u);
	char when[32] = "";
	struct tm tm;

	if (localtime_r(&at, &tm))
		(void)strftime(when, sizeof(when), "%F %T", &tm);
	printf("checkpoint of process %d, made %s on %s by %s (Linux %s, %s)\n", inv->root_pid,
	       when, inv->hostname, inv->program, inv->kernel, inv->machine);
	printf("id ");
	print_id(&inv->content_id);
	if (inv->parent_id.len) {
		printf("an increment of ");
		print_id(&inv->parent_id);
	}
	if (inv->stats)
		printf("%llu task%s, %llu thread%s, ", (unsigned long long)inv->stats->tasks,
		       inv->stats->tasks == 1 ? "" : "s", (unsigned long long)inv->stats->threads,
		       inv->stats->threads == 1 ? "" : "s");
	show_memory(img);
	/* Of a program that was ended or left stopped there is none. */
	if (inv->stats && inv->stats->pause_us)
		printf(", pause %llu.%01llu ms", (unsigned long long)inv->stats->pause_us / 1000,
		       (unsigned long long)inv->stats->pause_us / 100 % 10);
	puts("");
	if (inv->stats)
		cmd_print_phases(stdout, inv->stats);
	if (inv->namespaces)
		printf("namespaces of its own:%s%s%s%s%s%s\n", inv->namespaces->net ? " net" : "",
		       inv->namespaces->pid ? " pid" : "", inv->namespaces->ipc ? " ipc" : "",
		       inv->namespaces->uts ? " uts (" : "",
		       inv->namespaces->uts ? inv->namespaces->nodename : "",
		       inv->namespaces->uts ? ")" : "");
	show_external(img);
}

static void show_fds(const struct image *img)
{
	for (size_t i = 0; i < img->tasks.n; i++) {
		const Ckpt__Task *t = img->tasks.v[i];
		const Ckpt__FdTable *table = t->fdtable ? img->tables.v[t->fdtable - 1] : NULL;

		if (!table)
			continue;
		printf("descriptors of %d\n", t->pid);
		for (size_t k = 0; k < table->n_fds; k++) {
			const Ckpt__Object *o = img->objects.v[table->fds[k]->object - 1];
			const struct fd_kind *kind = fd_kind_by_name(o->state->kind);
			ProtobufCMessage *m = kind ? protobuf_c_message_unpack(kind->desc, NULL,
									       o->state->body.len,
									       o->state->body.data)
						   : NULL;
			struct json_object *j = m ? cmd_message_json(m) : NULL;

			printf("  %4u %-10s #%-5u %s\n", table->fds[k]->fd, o->state->kind, o->id,
			       j ? json_object_to_json_string_ext(j, JSON_C_TO_STRING_NOSLASHESCAPE)
				 : "");
			json_object_put(j);
			if (m)
				protobuf_c_message_free_unpacked(m, NULL);
		}
	}
}

static void show_vmas(const struct image *img)
{
	for (size_t i = 0; i < img->mms.n; i++) {
		printf("address space %u\n", img->mms.v[i]->id);
		for (size_t k = 0; k < img->mms.v[i]->n_vmas; k++) {
			const Ckpt__Vma *v = img->mms.v[i]->vmas[k];
			char size[16];

			printf("  %012llx-%012llx %c%c%c%c %10s  %-8s",
			       (unsigned long long)v->start, (unsigned long long)v->end,
			       v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
			       v->prot & PROT_EXEC ? 'x' : '-', v->map & MAP_SHARED ? 's' : 'p',
			       cmd_human(v->end - v->start, size), v->kind);
			if (v->object)
				printf(" #%u +%#llx", v->object, (unsigned long long)v->pgoff);
			puts("");
		}
	}
}

static void show_tasks(const struct image *img)
{
	show_tree(img, 0, 0);
}

static struct json_object *list_json(void *list_ptr)
{
	VEC(ProtobufCMessage *) *list = list_ptr;
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < list->n; i++)
		json_object_array_add(a, cmd_message_json(list->v[i]));
	return a;
}

static struct json_object *image_json(struct image *img)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "inventory", cmd_message_json(&img->inv->base));
	json_object_object_add(o, "tasks", list_json(&img->tasks));
	json_object_object_add(o, "address_spaces", list_json(&img->mms));
	json_object_object_add(o, "descriptor_tables", list_json(&img->tables));
	json_object_object_add(o, "objects", list_json(&img->objects));
	return o;
}

static const struct {
	const char *name;
	void (*show)(const struct image *img);
} sections[] = {
	{ "summary", show_summary },
	{ "tasks", show_tasks },
	{ "fds", show_fds },
	{ "vmas", show_vmas },
};

static const char *image_arg(const struct cmd *cmd, struct cmd_common *c, int argc, char **argv)
{
	const char *dir = NULL;
	int key;

	while ((key = cmd_getopt(cmd, c, argc, argv)) != -1)
		if (key == 'D')
			dir = optarg;
	return dir;
}

static int run_show(const struct cmd *cmd, int argc, char **argv)
{
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	const char *dir = image_arg(cmd, &c, argc, argv);
	const char *want = optind < argc ? argv[optind] : NULL;
	bool shown = false;
	struct image img;

	if (!dir)
		return cmd_usage(cmd, "name the checkpoint with --image");
	if (image_read(&img, dir, &err)) {
		image_free(&img);
		return cmd_fail(&c, &err);
	}
	if (c.json) {
		cmd_print_json(image_json(&img));
		shown = true;
	}
	for (size_t i = 0; !c.json && i < ARRAY_SIZE(sections); i++)
		if (want ? !strcmp(want, sections[i].name) : (i < 2 || c.verbose)) {
			sections[i].show(&img);
			shown = true;
		}
	image_free(&img);
	return shown ? 0
		     : cmd_usage(cmd, "sections are summary, tasks, fds and vmas, not \"%s\"",
				 want);
}

static int run_verify(const struct cmd *cmd, int argc, char **argv)
{
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	const char *dir = image_arg(cmd, &c, argc, argv);
	struct image img;
	int rc;

	if (!dir || optind < argc)
		return cmd_usage(cmd, "name the checkpoint with --image");
	rc = image_read(&img, dir, &err);
	if (!rc)
		rc = image_verify_pages(&img, &c.ui, &err);
	cmd_progress_end();
	if (!rc && c.json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "ok", json_object_new_boolean(true));
		cmd_print_json(o);
	} else if (!rc && !c.quiet) {
		printf("%s is whole: %zu task%s, ", dir, img.tasks.n, img.tasks.n == 1 ? "" : "s");
		show_memory(&img);
		puts("");
	}
	image_free(&img);
	return rc ? cmd_fail(&c, &err) : 0;
}

const struct cmd cmd_show = { "show", "-D DIR [summary|tasks|fds|vmas]", "look into a checkpoint",
			      opts, run_show };
const struct cmd cmd_verify = { "verify", "-D DIR", "check every byte of a checkpoint", opts,
				run_verify };
