// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "migrate/link.h"

enum { OPT_PSK = 256 };

static const struct cmd_opt opts[] = {
	{ 'o', "output", "DIR", "make DIR/source.pem and DIR/peer.pem, one per node" },
	{ OPT_PSK, "psk", "FILE", "make one pre-shared key, the same for both nodes" },
	{ 0 },
};

static int run(const struct cmd *cmd, int argc, char **argv)
{
	const char *dir = NULL, *psk = NULL;
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	int key;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 'o')
			dir = optarg;
		if (key == OPT_PSK)
			psk = optarg;
	}
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (!dir == !psk)
		return cmd_usage(cmd, "say either --output or --psk");
	if (dir ? link_keygen_pair(dir, &err) : link_keygen_psk(psk, &err))
		return cmd_fail(&c, &err);
	if (!c.quiet && dir)
		printf("keep %s/source.pem here, move %s/peer.pem to the other node; use them with "
		       "--key\n",
		       dir, dir);
	else if (!c.quiet)
		printf("copy %s to the other node; use it with --key on both\n", psk);
	return 0;
}

const struct cmd cmd_keygen = { "keygen", "-o DIR | --psk FILE",
				"make the keys by which two nodes know each other", opts, run };
