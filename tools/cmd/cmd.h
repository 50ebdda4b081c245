/* SPDX-License-Identifier: GPL-2.0-only */
/* Subcommands: options → one call → print. The only room that prints or exits. */
#ifndef CKPT_CMD_CMD_H
#define CKPT_CMD_CMD_H

#include <getopt.h>
#include <json-c/json.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "base/ui.h"
#include "kind/kind.h"

/* One option of one command: the table is what --help and the completions are made of. */
struct cmd_opt {
	int key;          /* short option, or 256 and above for long-only */
	const char *name; /* long option */
	const char *arg;  /* NULL: takes none */
	const char *help;
};

struct cmd {
	const char *name;
	const char *args; /* for the usage line */
	const char *help;
	const struct cmd_opt *opts; /* ends with name NULL */
	int (*run)(const struct cmd *cmd, int argc, char **argv);
};

extern const struct cmd cmd_dump, cmd_restore, cmd_migrate, cmd_receive, cmd_keygen, cmd_check,
	cmd_show, cmd_verify, cmd_track, cmd_merge, cmd_diff;

/* What every command accepts. */
struct cmd_common {
	bool json, quiet;
	bool lines; /* JSON is a stream of events: one object a line */
	int verbose;
	struct ckpt_ui ui;
};

/* The next option as getopt_long gives it, -1 at the end; common options are taken on the way.
 * Unknown options print usage and exit with 2. */
int cmd_getopt(const struct cmd *cmd, struct cmd_common *c, int argc, char **argv);
/* Print @err as the user wants it and return the exit status. */
int cmd_fail(const struct cmd_common *c, const struct ckpt_err *err);
/* "ckpt: E-USAGE: …"; returns 2. */
int cmd_usage(const struct cmd *cmd, const char *fmt, ...) __printf(2, 3);
void cmd_help(const struct cmd *cmd);
/* Is this root? */
int cmd_need_root(struct ckpt_err *err) __must_check;
/* Parse a pid; false when @s is none. */
bool cmd_pid(const char *s, int *ret);
/* Parse "4096", "64k", "1M", "2G" into bytes. */
bool cmd_size(const char *s, uint64_t *ret);
/* Parse "500us", "20ms", "1.5s", "10m", "1h" into microseconds; a number alone counts @alone_us
 * each. False when @s is no time, or one of more than a year. */
bool cmd_time(const char *s, uint64_t alone_us, uint64_t *ret_us);
/* --hook-timeout: a day at most. */
bool cmd_hook_timeout(const char *s, uint32_t *ret_ms);
/* Append to a list of CKPT_EXTERNAL_MAX; false when it is full. */
bool cmd_list(const char *s, const char **list, size_t *n);
/* What a restore is told of its surroundings: "3:pipe:[4711]" or "closed:pipe:[4711]", and
 * "net:/run/netns/blue". */
bool cmd_inherit(const char *s, struct ckpt_inherit *ret);
bool cmd_join(const char *s, struct ckpt_restore_opts *o);
/* keep (or established), close or refuse */
bool cmd_tcp(const char *s, enum ckpt_tcp *ret);
/* A message as JSON, by its descriptor; bytes as hex, long ones as their length. */
struct json_object *cmd_message_json(const ProtobufCMessage *msg);
struct json_object *cmd_err_json(const struct ckpt_err *err);
void cmd_print_json(struct json_object *o); /* takes over o */
/* The same as one line, at once. */
void cmd_print_line(struct json_object *o);
void cmd_progress_end(void);
/* What a dump was made of, in one line. */
void cmd_print_phases(FILE *to, const Ckpt__Stats *st);
/* "12.3 MiB" into @buf of at least 16 bytes. */
const char *cmd_human(uint64_t bytes, char *buf);

#endif
