/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where in the kernel's record of a TCP socket its options are, found out by setting each of them
 * on a socket made for that and looking at what changes. Two sockets whose records have the same in
 * these places, at the same time, have the same options: one of them is asked. What a connection
 * makes of some (sockopt_of_connection) changes by itself; of a listener they have places as well.
 */
#ifndef CKPT_KIND_FD_SOCKPLACES_H
#define CKPT_KIND_FD_SOCKPLACES_H

#include "kern/fileiter.h"

#define SOCKOPTS_MAX 160u

struct sockopt_places {
	struct sock_words words; /* all of them; n 0: nothing is known */
	/* Of AF_INET and AF_INET6, each of connections and of listeners: which bits of the words
	 * count; bit i of byte i / 8 says that option i is there. */
	struct sockopt_place {
		uint64_t mask[SOCK_WORDS_MAX];
		uint8_t known[SOCKOPTS_MAX / 8];
	} of[2][2];
};

/* Some 20 ms. @types: loaded when they are not yet; the caller frees. 0 or -errno, then ret->words
 * is empty. */
int sockopt_places_find(struct sockopt_places *ret, struct btf *types);
/* Have they the same in all these places? */
bool sockopts_alike(const struct sockopt_places *p, const struct file_view *a,
		    const struct file_view *b);
/* Is option @i of a socket of this @family in the words? */
bool sockopt_placed(const struct sockopt_places *p, int family, bool listens, size_t i);

#endif
