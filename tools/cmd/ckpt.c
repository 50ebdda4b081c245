// SPDX-License-Identifier: GPL-2.0-only
/* The command table. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

static const struct cmd *const commands[] = {
	&cmd_dump,  &cmd_restore, &cmd_migrate, &cmd_receive, &cmd_keygen, &cmd_track,
	&cmd_merge, &cmd_diff,    &cmd_check,   &cmd_show,    &cmd_verify, NULL,
};

static void usage(FILE *f)
{
	fprintf(f, "usage: ckpt COMMAND [OPTION…]\n\n");
	for (size_t i = 0; commands[i]; i++)
		fprintf(f, "  %-9s %s\n", commands[i]->name, commands[i]->help);
	fprintf(f, "\n  ckpt COMMAND --help   what the command takes\n"
		   "  ckpt --version        the version of this program\n");
}

static void nothing(int sig)
{
	(void)sig;
}

/* A write beyond the limit of file sizes fails, and says so; it does not end ckpt, which may hold a
 * program. Not to ignore the signal: whoever is started from here would, too. */
static void survive_file_limit(void)
{
	struct sigaction sa = { .sa_handler = nothing, .sa_flags = SA_RESTART }, old;

	if (!sigaction(SIGXFSZ, NULL, &old) && old.sa_handler == SIG_DFL)
		(void)sigaction(SIGXFSZ, &sa, NULL);
}

int main(int argc, char **argv)
{
	survive_file_limit();
	/* What one thread allocates another one frees. */
	(void)mallopt(M_ARENA_MAX, 1);
	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("ckpt %s\n", CKPT_VERSION);
		return 0;
	}
	for (size_t i = 0; commands[i]; i++)
		if (!strcmp(commands[i]->name, argv[1]))
			return commands[i]->run(commands[i], argc - 1, argv + 1);
	fprintf(stderr, "ckpt: E-USAGE: there is no command \"%s\"\n  → see: ckpt --help\n",
		argv[1]);
	return 2;
}
