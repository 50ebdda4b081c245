// SPDX-License-Identifier: GPL-2.0-only
/*
 * TLS 1.3 on a link, and the files both ends know each other by. Either a pre-shared key, or a
 * pair of certificates of which each end holds its own key and the other's certificate: no
 * authority is asked, nobody else is trusted. Not one byte is read before the handshake is done.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "migrate/link.h"
#include "migrate/openssl.h"

#define PSK_HEAD "ckpt-psk-1 "
#define PSK_BYTES 32
#define PSK_NAME "ckpt"
#define KEY_FILE_MAX 65536
#define TLS_GATHER (256l << 10)
#define YEARS(n) (60l * 60 * 24 * 365 * (n))

struct tls {
	SSL *ssl;
	SSL_CTX *ctx;
	X509 *trusted; /* the other end's certificate */
	unsigned char psk[PSK_BYTES];
	bool has_psk;
};

static int fail_tls(struct ckpt_err *err, const char *what)
{
	char text[160] = "the other end closed the connection";
	unsigned long e = ERR_get_error();

	if (e)
		(void)snprintf(text, sizeof(text), "%s", ERR_reason_error_string(e));
	ERR_clear_error();
	return ckpt_fail(err, E_PEER, -EPROTO, "%s: %s", what, text);
}

static ssize_t tls_result(struct link *l, int n)
{
	struct tls *t = l->tls;
	int e = SSL_get_error(t->ssl, n);

	if (n > 0)
		return n;
	l->want = e == SSL_ERROR_WANT_WRITE ? POLLOUT : e == SSL_ERROR_WANT_READ ? POLLIN : 0;
	if (l->want)
		return -EAGAIN;
	ERR_clear_error();
	/* An end without TLS's own farewell is a cut. */
	return e == SSL_ERROR_ZERO_RETURN ? 0 : -ECONNRESET;
}

static ssize_t tls_read(struct link *l, void *buf, size_t len)
{
	return tls_result(l, SSL_read(((struct tls *)l->tls)->ssl, buf,
				      (int)(len > (1u << 30) ? 1u << 30 : len)));
}

static ssize_t tls_write(struct link *l, const void *buf, size_t len)
{
	return tls_result(l, SSL_write(((struct tls *)l->tls)->ssl, buf,
				       (int)(len > (1u << 30) ? 1u << 30 : len)));
}

static void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	X509_free(t->trusted);
	OPENSSL_cleanse(t->psk, sizeof(t->psk));
	free(t);
}

static void tls_close(struct link *l)
{
	struct tls *t = l->tls;

	if (t && t->ssl && SSL_is_init_finished(t->ssl))
		(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
	tls_free(t);
	l->tls = NULL;
}

/* Records gather in front of the socket: one system call for many of them. */
static int tls_flush(struct link *l)
{
	struct tls *t = l->tls;
	BIO *b = SSL_get_wbio(t->ssl);

	if (BIO_flush(b) > 0)
		return 0;
	l->want = POLLOUT;
	return BIO_should_retry(b) ? -EAGAIN : -ECONNRESET;
}

static bool tls_gather(struct tls *t)
{
	BIO *buffer = BIO_new(BIO_f_buffer()), *sock = SSL_get_wbio(t->ssl);

	if (!buffer || !BIO_set_write_buffer_size(buffer, TLS_GATHER) || !BIO_up_ref(sock)) {
		BIO_free(buffer);
		return false;
	}
	SSL_set0_wbio(t->ssl, BIO_push(buffer, sock));
	return true;
}

static const struct link_ops link_tls_ops = {
	.name = "tls",
	.read = tls_read,
	.write = tls_write,
	.flush = tls_flush,
	.close = tls_close,
	.sealed = true,
};

/* ---- pre-shared key --------------------------------------------------------------------- */

static SSL_SESSION *psk_session(SSL *ssl, const struct tls *t)
{
	static const unsigned char aes128_sha256[] = { 0x13, 0x01 };
	SSL_SESSION *s = SSL_SESSION_new();
	const SSL_CIPHER *c = SSL_CIPHER_find(ssl, aes128_sha256);

	if (s && c && SSL_SESSION_set1_master_key(s, t->psk, sizeof(t->psk)) &&
	    SSL_SESSION_set1_id_context(s, (const unsigned char *)PSK_NAME, strlen(PSK_NAME)) &&
	    SSL_SESSION_set_cipher(s, c) && SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION))
		return s;
	SSL_SESSION_free(s);
	return NULL;
}

static int psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *idlen,
		   SSL_SESSION **sess)
{
	const struct tls *t = SSL_get_app_data(ssl);

	(void)md;
	*sess = psk_session(ssl, t);
	*id = (const unsigned char *)PSK_NAME;
	*idlen = strlen(PSK_NAME);
	return *sess != NULL;
}

static int psk_find(SSL *ssl, const unsigned char *id, size_t idlen, SSL_SESSION **sess)
{
	const struct tls *t = SSL_get_app_data(ssl);

	*sess = NULL;
	if (idlen != strlen(PSK_NAME) || memcmp(id, PSK_NAME, idlen) != 0)
		return 1;
	*sess = psk_session(ssl, t);
	return *sess != NULL;
}

static bool psk_parse(const char *text, unsigned char *ret)
{
	text += strlen(PSK_HEAD);
	for (size_t i = 0; i < PSK_BYTES; i++) {
		unsigned int v;
		int used = 0;

		if (sscanf(text + 2 * i, "%2x%n", &v, &used) != 1 || used != 2)
			return false;
		ret[i] = (unsigned char)v;
	}
	return true;
}

/* ---- key files -------------------------------------------------------------------------- */

static int load_pair(struct tls *t, const char *text, size_t len, const char *key,
		     struct ckpt_err *err)
{
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
	X509 *own = pkey ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	bool ok;

	t->trusted = own ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	ok = t->trusted && SSL_CTX_use_certificate(t->ctx, own) == 1 &&
	     SSL_CTX_use_PrivateKey(t->ctx, pkey) == 1 && SSL_CTX_check_private_key(t->ctx) == 1 &&
	     X509_STORE_add_cert(SSL_CTX_get_cert_store(t->ctx), t->trusted) == 1;
	EVP_PKEY_free(pkey);
	X509_free(own);
	BIO_free(bio);
	ERR_clear_error();
	if (ok)
		return 0;
	(void)ckpt_fail(err, E_USAGE, -EINVAL,
			"%s holds neither a key of ckpt nor a key with two certificates", key);
	return ckpt_remedy(err, "make a pair: ckpt keygen -o DIR");
}

static int key_look(const char *key, struct ckpt_err *err)
{
	struct stat st;

	if (stat(key, &st)) {
		(void)ckpt_fail_errno(err, E_USAGE, -errno, "cannot open the key %s", key);
		return ckpt_remedy(err, "make a pair: ckpt keygen -o DIR");
	}
	if (st.st_mode & 077) {
		(void)ckpt_fail(err, E_USAGE, -EPERM, "others may read the key %s (mode %o)", key,
				st.st_mode & 0777);
		return ckpt_remedy(err, "chmod 600 %s", key);
	}
	return st.st_size > KEY_FILE_MAX
		       ? ckpt_fail(err, E_USAGE, -EFBIG, "%s is not a key of ckpt", key)
		       : 0;
}

static int load_key(struct tls *t, const char *key, struct ckpt_err *err)
{
	auto_free char *text = NULL;
	ssize_t len;

	if (key_look(key, err))
		return err->code;
	len = io_read_file(AT_FDCWD, key, &text);
	if (len < 0)
		return ckpt_fail_errno(err, E_USAGE, (int)len, "cannot read the key %s", key);
	if (strncmp(text, PSK_HEAD, strlen(PSK_HEAD)) != 0)
		return load_pair(t, text, (size_t)len, key, err);
	t->has_psk = psk_parse(text, t->psk);
	OPENSSL_cleanse(text, (size_t)len);
	return t->has_psk ? 0 : ckpt_fail(err, E_USAGE, -EINVAL, "%s is not a key of ckpt", key);
}

static int tls_setup(struct tls *t, const char *key, bool server, struct ckpt_err *err)
{
	int rc;

	t->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!t->ctx || !SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION))
		return fail_tls(err, "cannot set up TLS");
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(t->ctx, 0);
	SSL_CTX_set_mode(t->ctx,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(t->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(t->ctx, TLS_GATHER);
	(void)SSL_CTX_set_session_id_context(t->ctx, (const unsigned char *)PSK_NAME,
					     strlen(PSK_NAME));
	rc = load_key(t, key, err);
	if (rc)
		return rc;
	if (t->has_psk) {
		/* The suite that the key is bound to, and no certificates at all. */
		if (!SSL_CTX_set_ciphersuites(t->ctx, "TLS_AES_128_GCM_SHA256"))
			return fail_tls(err, "cannot set up TLS");
		SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		SSL_CTX_set_psk_use_session_callback(t->ctx, psk_use);
		SSL_CTX_set_psk_find_session_callback(t->ctx, psk_find);
	} else {
		(void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(t->ctx),
						  X509_V_FLAG_PARTIAL_CHAIN);
		SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	}
	t->ssl = SSL_new(t->ctx);
	if (!t->ssl)
		return fail_tls(err, "cannot set up TLS");
	SSL_set_app_data(t->ssl, t);
	return 0;
}

int link_key_check(const char *key, struct ckpt_err *err)
{
	struct tls *t = NULL;
	int rc = openssl_load(err);

	if (rc)
		return rc;
	t = calloc(1, sizeof(*t));
	rc = t ? tls_setup(t, key, true, err) : ckpt_oom(err);
	tls_free(t);
	return rc;
}

/* Who is there? With a key: the key was used. With certificates: it is the one we were given. */
static bool peer_known(struct tls *t)
{
	X509 *cert;
	bool same;

	if (t->has_psk)
		return SSL_session_reused(t->ssl);
	cert = SSL_get1_peer_certificate(t->ssl);
	same = cert && X509_cmp(cert, t->trusted) == 0 &&
	       SSL_get_verify_result(t->ssl) == X509_V_OK;
	X509_free(cert);
	return same;
}

static int handshake(struct link *l, struct tls *t, bool server)
{
	uint64_t end = io_now_us() + 15000000;

	for (;;) {
		int n = server ? SSL_accept(t->ssl) : SSL_connect(t->ssl);
		int e = SSL_get_error(t->ssl, n);
		struct pollfd p = { .fd = l->rfd,
				    .events = e == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN };
		uint64_t now = io_now_us();

		if (n == 1)
			return 0;
		if ((e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) || now > end)
			return -EPROTO;
		(void)poll(&p, 1, (int)((end - now) / 1000) + 1);
	}
}

int link_tls(struct link *l, const char *key, bool server, struct ckpt_err *err)
{
	struct tls *t = NULL;
	int rc = openssl_load(err);

	if (rc)
		return rc;
	t = calloc(1, sizeof(*t));
	rc = t ? tls_setup(t, key, server, err) : ckpt_oom(err);

	if (!rc && !SSL_set_fd(t->ssl, l->rfd))
		rc = fail_tls(err, "cannot set up TLS");
	if (!rc && handshake(l, t, server)) {
		char what[192];

		(void)snprintf(what, sizeof(what), "%s and this node do not know each other",
			       l->peer);
		(void)fail_tls(err, what);
		rc = ckpt_remedy(err, "give both the two halves of one pair, or one key: ckpt "
				      "keygen");
	}
	if (!rc && !peer_known(t))
		rc = ckpt_fail(err, E_PEER, -EPERM, "%s does not hold the key", l->peer);
	if (!rc && !tls_gather(t))
		rc = ckpt_oom(err);
	if (rc) {
		tls_free(t);
		return rc;
	}
	l->tls = t;
	l->ops = &link_tls_ops;
	return 0;
}

/* ---- ckpt keygen ------------------------------------------------------------------------ */

static int create_secret(const char *path, FILE **ret, struct ckpt_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0) {
		int rc = ckpt_fail_errno(err, E_USAGE, -errno, "cannot create %s", path);

		return rc == -EEXIST
			       ? ckpt_remedy(err,
					     "use that key, or name another place for new ones")
			       : ckpt_remedy(err, "name a place that can be written");
	}
	*ret = fdopen(fd, "w");
	if (!*ret) {
		(void)close(fd);
		return ckpt_oom(err);
	}
	return 0;
}

int link_keygen_psk(const char *file, struct ckpt_err *err)
{
	unsigned char key[PSK_BYTES];
	auto_file FILE *f = NULL;
	int rc = openssl_load(err);

	if (rc)
		return rc;
	if (RAND_bytes(key, sizeof(key)) != 1)
		return fail_tls(err, "no random numbers");
	rc = create_secret(file, &f, err);
	if (rc)
		return rc;
	(void)fputs(PSK_HEAD, f);
	for (size_t i = 0; i < sizeof(key); i++)
		(void)fprintf(f, "%02x", key[i]);
	(void)fputc('\n', f);
	OPENSSL_cleanse(key, sizeof(key));
	return fflush(f) ? ckpt_fail_errno(err, E_USAGE, -errno, "cannot write %s", file) : 0;
}

static X509 *make_cert(EVP_PKEY *key, const char *name)
{
	X509 *x = X509_new();
	unsigned char serial[8];
	uint64_t number;

	if (!x || RAND_bytes(serial, sizeof(serial)) != 1)
		goto fail;
	memcpy(&number, serial, sizeof(number));
	if (!X509_set_version(x, 2) ||
	    !ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), number >> 1) ||
	    !X509_gmtime_adj(X509_getm_notBefore(x), -86400) ||
	    !X509_gmtime_adj(X509_getm_notAfter(x), YEARS(20)) || !X509_set_pubkey(x, key) ||
	    !X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
					(const unsigned char *)name, -1, -1, 0) ||
	    !X509_set_issuer_name(x, X509_get_subject_name(x)) || !X509_sign(x, key, NULL))
		goto fail;
	return x;
fail:
	X509_free(x);
	return NULL;
}

int link_keygen_pair(const char *dir, struct ckpt_err *err)
{
	static const char *const name[] = { "source", "peer" };
	EVP_PKEY *key[2] = { NULL, NULL };
	X509 *cert[2] = { NULL, NULL };
	int rc = openssl_load(err);

	if (rc)
		return rc;
	if (mkdir(dir, 0700) && errno != EEXIST)
		return (void)ckpt_fail_errno(err, E_USAGE, -errno, "cannot create %s", dir),
		       ckpt_remedy(err, "name a place that can be written");
	for (int i = 0; !rc && i < 2; i++) {
		key[i] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		cert[i] = key[i] ? make_cert(key[i], name[i]) : NULL;
		if (!cert[i])
			rc = fail_tls(err, "cannot make a key");
	}
	for (int i = 0; !rc && i < 2; i++) {
		auto_file FILE *f = NULL;
		char path[4096];

		(void)snprintf(path, sizeof(path), "%s/%s.pem", dir, name[i]);
		rc = create_secret(path, &f, err);
		if (!rc &&
		    (!PEM_write_PrivateKey(f, key[i], NULL, NULL, 0, NULL, NULL) ||
		     !PEM_write_X509(f, cert[i]) || !PEM_write_X509(f, cert[!i]) || fflush(f)))
			rc = ckpt_fail_errno(err, E_USAGE, -errno, "cannot write %s", path);
	}
	for (int i = 0; i < 2; i++) {
		EVP_PKEY_free(key[i]);
		X509_free(cert[i]);
	}
	return rc;
}
