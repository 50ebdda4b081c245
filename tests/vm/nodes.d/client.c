// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asks the server of tests/vm/nodes without end, over one connection that it holds,
 * and checks each answer. What it has seen is always in a file, which is replaced
 * as a whole:
 *
 *	answers N verified N wrote N longest_ms N error TEXT
 *
 * usage: client ADDRESS PORT FILE
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "numbers.h"

static struct {
	unsigned long answers, verified, wrote[3], longest_ms;
	char error[256];
	const char *file;
} seen;

static void say(void)
{
	char tmp[256];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "%s.new", seen.file);
	f = fopen(tmp, "w");
	if (!f || fprintf(f, "answers %lu verified %lu wrote %lu longest_ms %lu error %s\n", seen.answers,
			  seen.verified, seen.wrote[0], seen.longest_ms, seen.error) < 0 ||
	    fclose(f) || rename(tmp, seen.file))
		exit(3);
}

static void fail(const char *what, const char *line)
{
	snprintf(seen.error, sizeof(seen.error), "%s: %.200s", what, line);
	seen.error[strcspn(seen.error, "\n")] = 0;
	say();
	exit(1);
}

static unsigned long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ul + ts.tv_nsec / 1000000;
}

static void check(unsigned long n, bool verify, const char *line)
{
	unsigned long nr, f, w[3];
	char word[8];

	if (verify) {
		if (sscanf(line, "%lu %7s", &nr, word) != 2 || nr != n || strcmp(word, "ok"))
			fail("verify", line);
		seen.verified++;
		return;
	}
	if (sscanf(line, "%lu %lu %lu %lu %lu", &nr, &f, &w[0], &w[1], &w[2]) != 5 || nr != n || f != number_of(n))
		fail("a wrong answer", line);
	for (int i = 0; i < 3; i++) {
		if (w[i] < seen.wrote[i])
			fail("a thread went back", line);
		seen.wrote[i] = w[i];
	}
}

int main(int argc, char **argv)
{
	struct timespec pause = { .tv_nsec = 5000000 };
	struct sockaddr_in sa = { .sin_family = AF_INET };
	unsigned long said = 0;
	int s = -1;
	FILE *f;

	if (argc != 4 || inet_pton(AF_INET, argv[1], &sa.sin_addr) != 1)
		return 2;
	sa.sin_port = htons(atoi(argv[2]));
	seen.file = argv[3];
	for (int tries = 0; tries < 600; tries++) {
		s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (!connect(s, (struct sockaddr *)&sa, sizeof(sa)))
			break;
		close(s);
		s = -1;
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
	f = s < 0 ? NULL : fdopen(s, "r");
	if (!f)
		fail("cannot connect", "");
	for (unsigned long n = 1;; n++) {
		bool verify = n % 100 == 50;
		unsigned long begin = now_ms(), took;
		char line[256] = "";

		if (dprintf(s, "%lu %s\n", n, verify ? "verify" : "ask") < 0 || !fgets(line, sizeof(line), f))
			fail("the connection ended", line);
		check(n, verify, line);
		took = now_ms() - begin;
		if (took > seen.longest_ms)
			seen.longest_ms = took;
		seen.answers++;
		if (now_ms() - said > 100) {
			say();
			said = now_ms();
		}
		nanosleep(&pause, NULL);
	}
}
