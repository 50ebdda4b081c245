// SPDX-License-Identifier: GPL-2.0-only
/* Options, errors, progress and JSON that all commands share. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/vec.h"
#include "cmd/cmd.h"

static const struct cmd_opt common_opts[] = {
	{ 1000, "json", NULL, "print the result (and progress) as JSON on stdout" },
	{ 'v', "verbose", NULL, "say more; twice for every detail" },
	{ 'q', "quiet", NULL, "print nothing but errors" },
	{ 'h', "help", NULL, "this help" },
	{ 0 },
};

static pthread_mutex_t progress_lock = PTHREAD_MUTEX_INITIALIZER;
static bool progress_shown;

void cmd_progress_end(void)
{
	pthread_mutex_lock(&progress_lock);
	if (progress_shown)
		fprintf(stderr, "\r\033[K");
	progress_shown = false;
	pthread_mutex_unlock(&progress_lock);
}

const char *cmd_human(uint64_t bytes, char *buf)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < ARRAY_SIZE(unit)) {
		v /= 1024;
		u++;
	}
	(void)snprintf(buf, 16, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
	return buf;
}

void cmd_print_phases(FILE *to, const Ckpt__Stats *st)
{
#define N(field) (unsigned long long)st->field
	fprintf(to,
		"µs: check %llu, ahead %llu, freeze %llu, threads %llu, descriptors %llu, mappings "
		"%llu, compare %llu, snapshot %llu, copy %llu, stop %llu, later %llu, all %llu; "
		"pages: scanned %llu, dirty %llu, copied %llu (ahead %llu, later %llu), zero %llu, "
		"unchanged %llu, shared %llu; faults %llu\n",
		N(check_us), N(pre_us), N(freeze_us), N(threads_us), N(fds_us), N(maps_us),
		N(compare_us), N(snapshot_us), N(copy_us), N(pause_us), N(later_us), N(total_us),
		N(pages_scanned), N(pages_dirty), N(pages_written), N(pages_pre), N(pages_later),
		N(pages_zero), N(pages_parent), N(pages_shared), N(faults_since));
#undef N
}

static void ui_print_note(struct ckpt_ui *ui, int level, const char *fmt, va_list ap)
{
	(void)ui;
	(void)level;
	cmd_progress_end();
	vfprintf(level ? stderr : stdout, fmt, ap);
	fputc('\n', level ? stderr : stdout);
}

/* Standard output is for JSON alone. */
static void ui_print_aside(struct ckpt_ui *ui, int level, const char *fmt, va_list ap)
{
	(void)level;
	ui_print_note(ui, 1, fmt, ap);
}

static void ui_print_warn(struct ckpt_ui *ui, const char *fmt, va_list ap)
{
	(void)ui;
	cmd_progress_end();
	fprintf(stderr, "ckpt: note: ");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

/* A bar, redrawn at most ten times a second and only for work that takes a while. */
static void ui_print_progress(struct ckpt_ui *ui, const char *phase, uint64_t done, uint64_t total)
{
	static uint64_t began, drawn;
	static const char *last_phase;
	uint64_t now = io_now_us();
	char a[16], b[16], bar[31];
	int fill;

	(void)ui;
	if (pthread_mutex_trylock(&progress_lock))
		return;
	if (phase != last_phase) {
		last_phase = phase;
		began = now;
	}
	if (now - began > 300000 && now - drawn > 100000 && total) {
		drawn = now;
		fill = (int)(done * 30 / total);
		memset(bar, '.', 30);
		memset(bar, '#', (size_t)(fill > 30 ? 30 : fill));
		bar[30] = 0;
		fprintf(stderr, "\r%-8s [%s] %3d %%  %s of %s\033[K", phase, bar,
			(int)(done * 100 / total), cmd_human(done, a), cmd_human(total, b));
		fflush(stderr);
		progress_shown = true;
	}
	pthread_mutex_unlock(&progress_lock);
}

static void print_opts(const struct cmd_opt *o)
{
	for (; o->name; o++) {
		char left[64];

		(void)snprintf(left, sizeof(left), "%c%c%c --%s%s%s", o->key < 256 ? '-' : ' ',
			       o->key < 256 ? o->key : ' ', o->key < 256 ? ',' : ' ', o->name,
			       o->arg ? " " : "", o->arg ? o->arg : "");
		if (strlen(left) > 24)
			printf("  %s\n  %-24s %s\n", left, "", o->help);
		else
			printf("  %-24s %s\n", left, o->help);
	}
}

void cmd_help(const struct cmd *cmd)
{
	printf("usage: ckpt %s %s\n\n%s\n\n", cmd->name, cmd->args, cmd->help);
	print_opts(cmd->opts);
	print_opts(common_opts);
}

int cmd_usage(const struct cmd *cmd, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ckpt: E-USAGE: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n  → see: ckpt %s --help\n", cmd->name);
	return 2;
}

static void ui_init(struct cmd_common *c)
{
	c->ui.verbose = c->verbose;
	c->ui.note = c->json ? ui_print_aside : ui_print_note;
	c->ui.warn = c->quiet ? NULL : ui_print_warn;
	c->ui.progress = c->quiet || c->json || !isatty(2) ? NULL : ui_print_progress;
}

int cmd_getopt(const struct cmd *cmd, struct cmd_common *c, int argc, char **argv)
{
	struct option lo[64] = { 0 };
	char so[160] = ":";
	size_t n = 0;
	int key;

	for (int pass = 0; pass < 2; pass++)
		for (const struct cmd_opt *o = pass ? common_opts : cmd->opts; o->name && n < 63;
		     o++) {
			lo[n++] =
				(struct option) { o->name, o->arg ? required_argument : no_argument,
						  NULL, o->key };
			if (o->key < 256) {
				size_t l = strlen(so);

				(void)snprintf(so + l, sizeof(so) - l, "%c%s", o->key,
					       o->arg ? ":" : "");
			}
		}
	ui_init(c);
	for (;;) {
		key = getopt_long(argc, argv, so, lo, NULL);
		if (key == 1000)
			c->json = true;
		else if (key == 'v')
			c->verbose++;
		else if (key == 'q')
			c->quiet = true;
		else if (key == 'h') {
			cmd_help(cmd);
			exit(0);
		} else if (key == '?')
			exit(cmd_usage(cmd, "unknown option \"%s\"", argv[optind - 1]));
		else if (key == ':')
			exit(cmd_usage(cmd, "the option \"%s\" needs a value", argv[optind - 1]));
		else {
			ui_init(c);
			return key;
		}
	}
}

bool cmd_list(const char *s, const char **list, size_t *n)
{
	if (*n == CKPT_EXTERNAL_MAX)
		return false;
	list[(*n)++] = s;
	return true;
}

bool cmd_inherit(const char *s, struct ckpt_inherit *ret)
{
	char *end;
	long fd = strtol(s, &end, 10);

	if (!strncmp(s, "closed:", 7)) {
		*ret = (struct ckpt_inherit) { -1, s + 7 };
		return s[7];
	}
	*ret = (struct ckpt_inherit) { (int)fd, end + 1 };
	return end != s && *end == ':' && end[1] && fd >= 0 && fd < INT_MAX;
}

bool cmd_join(const char *s, struct ckpt_restore_opts *o)
{
	for (int t = 0; t < NSENTER_TYPES; t++) {
		const char *name = nsenter_name((enum nsenter_type)t);
		size_t n = strlen(name);

		if (strncmp(s, name, n) != 0 || s[n] != ':' || !s[n + 1])
			continue;
		o->join_ns[t] = s + n + 1;
		return true;
	}
	return false;
}

struct json_object *cmd_err_json(const struct ckpt_err *err)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "id", json_object_new_string(ckpt_err_name(err->id)));
	json_object_object_add(o, "message", json_object_new_string(err->msg));
	if (err->where[0])
		json_object_object_add(o, "where", json_object_new_string(err->where));
	json_object_object_add(o, "remedy", json_object_new_string(ckpt_err_remedy(err)));
	json_object_object_add(o, "errno", json_object_new_int(-err->code));
	return o;
}

void cmd_print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

void cmd_print_line(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(o);
}

int cmd_fail(const struct cmd_common *c, const struct ckpt_err *err)
{
	cmd_progress_end();
	if (c->json) {
		struct json_object *o = json_object_new_object();

		if (c->lines)
			json_object_object_add(o, "event", json_object_new_string("error"));
		json_object_object_add(o, "error", cmd_err_json(err));
		if (c->lines)
			cmd_print_line(o);
		else
			cmd_print_json(o);
	}
	fprintf(stderr, "ckpt: %s: %s%s%s\n  → %s\n", ckpt_err_name(err->id), err->where,
		err->where[0] ? ": " : "", err->msg, ckpt_err_remedy(err));
	return ckpt_err_status(err);
}

int cmd_need_root(struct ckpt_err *err)
{
	return geteuid() == 0 ? 0 : ckpt_fail(err, E_PERM, -EPERM, "ckpt needs the rights of root");
}

bool cmd_pid(const char *s, int *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno || *end || end == s || v <= 0 || v > INT_MAX)
		return false;
	*ret = (int)v;
	return true;
}

#define YEAR_US (366 * 86400e6)

bool cmd_time(const char *s, uint64_t alone_us, uint64_t *ret_us)
{
	const struct {
		const char *unit;
		uint64_t us;
	} units[] = { { "", alone_us }, { "us", 1 },       { "ms", 1000 },
		      { "s", 1000000 }, { "m", 60000000 }, { "h", 3600000000 } };
	/* No sign, no space, no name of a number, no hexadecimal. */
	size_t digits = strspn(s, "0123456789.");
	char *end;
	double n = strtod(s, &end);

	if (!digits || end != s + digits)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(end, units[i].unit) && n * (double)units[i].us <= YEAR_US) {
			*ret_us = (uint64_t)(n * (double)units[i].us + 0.5);
			return true;
		}
	return false;
}

bool cmd_hook_timeout(const char *s, uint32_t *ret_ms)
{
	uint64_t us;

	if (!cmd_time(s, 1000000, &us) || us < 1000 || us > 86400000000)
		return false;
	*ret_ms = (uint32_t)(us / 1000);
	return true;
}

bool cmd_size(const char *s, uint64_t *ret)
{
	static const char units[] = "kMGT";
	char *end;
	uint64_t v, shift = 0;
	const char *u;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || end == s || s[0] == '-')
		return false;
	if (*end) {
		u = strchr(units, *end == 'K' ? 'k' : *end == 'm' ? 'M' : *end == 'g' ? 'G' : *end);
		if (!u || end[1])
			return false;
		shift = (uint64_t)(u - units + 1) * 10;
	}
	if (shift && v >> (64 - shift))
		return false;
	*ret = v << shift;
	return true;
}

bool cmd_tcp(const char *s, enum ckpt_tcp *ret)
{
	static const struct {
		const char *name;
		enum ckpt_tcp value;
	} modes[] = { { "keep", CKPT_TCP_KEEP },
		      { "established", CKPT_TCP_KEEP }, /* as others call it */
		      { "close", CKPT_TCP_CLOSE },
		      { "refuse", CKPT_TCP_REFUSE } };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(s, modes[i].name)) {
			*ret = modes[i].value;
			return true;
		}
	return false;
}
