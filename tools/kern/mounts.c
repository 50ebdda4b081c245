// SPDX-License-Identifier: GPL-2.0-only
/* Takes mountinfo apart; knows nothing of what the mounts are for. */
#include "kern/mounts.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/vec.h"

static bool is_octal(const char *s)
{
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' &&
	       s[2] <= '7';
}

/* A blank, a newline and a backslash in a name are three octal digits behind a backslash. */
static const char *unescape(char *s)
{
	char *to = s;

	for (const char *p = s; *p; to++) {
		if (*p == '\\' && is_octal(p + 1)) {
			*to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*to = *p++;
		}
	}
	*to = 0;
	return s;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" */
static bool line_parse(char *line, struct mount *m)
{
	enum { ID, PARENT, DEV, ROOT, AT, HOW, FIXED };
	char *f[FIXED], *word, *type, *source, *colon;

	for (size_t i = 0; i < ARRAY_SIZE(f); i++)
		if (!(f[i] = strsep(&line, " ")))
			return false;
	/* Optional fields, as many as there are. */
	while ((word = strsep(&line, " ")) && strcmp(word, "-") != 0)
		;
	type = strsep(&line, " ");
	source = strsep(&line, " ");
	colon = strchr(f[DEV], ':');
	if (!type || !source || !line || !colon)
		return false;
	*m = (struct mount) {
		.id = strtoull(f[ID], NULL, 10),
		.dev = makedev((unsigned int)strtoul(f[DEV], NULL, 10),
			       (unsigned int)strtoul(colon + 1, NULL, 10)),
		.root = unescape(f[ROOT]),
		.at = unescape(f[AT]),
		.how = f[HOW],
		.type = unescape(type),
		.source = unescape(source),
		.super = line,
	};
	return true;
}

bool mount_next(char **at, struct mount *ret)
{
	char *line;

	while ((line = strsep(at, "\n")))
		if (line_parse(line, ret))
			return true;
	return false;
}
