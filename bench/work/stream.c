/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a connection over loopback carries, in nanoseconds for MIB mebibytes of fresh memory:
 *	stream tcp MIB
 *	stream tls MIB KEYS	KEYS: directory of ckpt keygen; OpenSSL's default cipher of TLS 1.3
 * One thread sends megabytes, another process receives them.
 */
#include "beat.h"
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CHUNK (1u << 20)

static SSL *setup(int fd, const char *dir, bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	char path[4096];
	SSL *ssl;

	snprintf(path, sizeof(path), "%s/peer.pem", dir);
	if (server && (SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM) != 1 ||
		       SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) != 1))
		exit(1);
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		exit(1);
	return ssl;
}

static void receive(int fd, const char *keys, size_t len)
{
	SSL *ssl = keys ? setup(fd, keys, true) : NULL;
	char *buf = malloc(CHUNK);

	while (len) {
		size_t want = len < CHUNK ? len : CHUNK;
		ssize_t n = ssl ? SSL_read(ssl, buf, (int)want) : read(fd, buf, want);

		if (n <= 0)
			exit(1);
		len -= (size_t)n;
	}
	if ((ssl ? SSL_write(ssl, "!", 1) : write(fd, "!", 1)) != 1)
		exit(1);
	exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t sl = sizeof(sa);
	const char *keys = argc > 3 && !strcmp(argv[1], "tls") ? argv[3] : NULL;
	size_t len = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
	uint64_t begin;
	SSL *ssl;
	char *mem, c;
	pid_t pid;

	if (!len || bind(listener, (struct sockaddr *)&sa, sizeof(sa)) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&sa, &sl))
		return 2;
	mem = mmap(NULL, 64 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(mem, 1, 64 * CHUNK);
	pid = fork();
	if (!pid) {
		fd = accept(listener, NULL, NULL);
		receive(fd, keys, len);
	}
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&sa, sl))
		return 1;
	ssl = keys ? setup(fd, keys, false) : NULL;
	begin = beat_ns();
	for (size_t at = 0; at < len; at += CHUNK) {
		char *p = mem + at % (64 * CHUNK);

		for (size_t off = 0; off < CHUNK;) {
			ssize_t n = ssl ? SSL_write(ssl, p + off, (int)(CHUNK - off)) :
					  write(fd, p + off, CHUNK - off);

			if (n <= 0)
				return 1;
			off += (size_t)n;
		}
	}
	if ((ssl ? SSL_read(ssl, &c, 1) : read(fd, &c, 1)) != 1)
		return 1;
	printf("%llu\n", (unsigned long long)(beat_ns() - begin));
	return waitpid(pid, NULL, 0) != pid;
}
