// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and relocating OpenSSL takes longer than all else that happens before main(), and a dump
 * or a restore has no use for it. So ckpt is not linked with it: here is one jump for each function
 * that tls.c calls, by a table that openssl_load() fills. A function that is missing in the list
 * shows at link time.
 */
#include "migrate/openssl.h"

#include <dlfcn.h>
#include <openssl/opensslv.h>

#include "base/vec.h"

#define STR_(x) #x
#define STR(x) STR_(x)
#define LIBRARY "libssl.so." STR(OPENSSL_SHLIB_VERSION)

/* Those of libcrypto are found through libssl, which needs it. */
#define FUNCTIONS(X)                                                                               \
	X(ASN1_INTEGER_set_uint64)                                                                 \
	X(BIO_ctrl)                                                                                \
	X(BIO_f_buffer)                                                                            \
	X(BIO_free)                                                                                \
	X(BIO_int_ctrl)                                                                            \
	X(BIO_new)                                                                                 \
	X(BIO_new_mem_buf)                                                                         \
	X(BIO_push)                                                                                \
	X(BIO_test_flags)                                                                          \
	X(BIO_up_ref)                                                                              \
	X(ERR_clear_error)                                                                         \
	X(ERR_get_error)                                                                           \
	X(ERR_reason_error_string)                                                                 \
	X(EVP_PKEY_Q_keygen)                                                                       \
	X(EVP_PKEY_free)                                                                           \
	X(OPENSSL_cleanse)                                                                         \
	X(PEM_read_bio_PrivateKey)                                                                 \
	X(PEM_read_bio_X509)                                                                       \
	X(PEM_write_PrivateKey)                                                                    \
	X(PEM_write_X509)                                                                          \
	X(RAND_bytes)                                                                              \
	X(SSL_CIPHER_find)                                                                         \
	X(SSL_CTX_check_private_key)                                                               \
	X(SSL_CTX_ctrl)                                                                            \
	X(SSL_CTX_free)                                                                            \
	X(SSL_CTX_get0_param)                                                                      \
	X(SSL_CTX_get_cert_store)                                                                  \
	X(SSL_CTX_new)                                                                             \
	X(SSL_CTX_set_ciphersuites)                                                                \
	X(SSL_CTX_set_default_read_buffer_len)                                                     \
	X(SSL_CTX_set_num_tickets)                                                                 \
	X(SSL_CTX_set_psk_find_session_callback)                                                   \
	X(SSL_CTX_set_psk_use_session_callback)                                                    \
	X(SSL_CTX_set_session_id_context)                                                          \
	X(SSL_CTX_set_verify)                                                                      \
	X(SSL_CTX_use_PrivateKey)                                                                  \
	X(SSL_CTX_use_certificate)                                                                 \
	X(SSL_SESSION_free)                                                                        \
	X(SSL_SESSION_new)                                                                         \
	X(SSL_SESSION_set1_id_context)                                                             \
	X(SSL_SESSION_set1_master_key)                                                             \
	X(SSL_SESSION_set_cipher)                                                                  \
	X(SSL_SESSION_set_protocol_version)                                                        \
	X(SSL_accept)                                                                              \
	X(SSL_connect)                                                                             \
	X(SSL_free)                                                                                \
	X(SSL_get1_peer_certificate)                                                               \
	X(SSL_get_error)                                                                           \
	X(SSL_get_ex_data)                                                                         \
	X(SSL_get_verify_result)                                                                   \
	X(SSL_get_wbio)                                                                            \
	X(SSL_is_init_finished)                                                                    \
	X(SSL_new)                                                                                 \
	X(SSL_read)                                                                                \
	X(SSL_session_reused)                                                                      \
	X(SSL_set0_wbio)                                                                           \
	X(SSL_set_ex_data)                                                                         \
	X(SSL_set_fd)                                                                              \
	X(SSL_shutdown)                                                                            \
	X(SSL_write)                                                                               \
	X(TLS_client_method)                                                                       \
	X(TLS_server_method)                                                                       \
	X(X509_NAME_add_entry_by_txt)                                                              \
	X(X509_STORE_add_cert)                                                                     \
	X(X509_VERIFY_PARAM_set_flags)                                                             \
	X(X509_cmp)                                                                                \
	X(X509_free)                                                                               \
	X(X509_get_serialNumber)                                                                   \
	X(X509_get_subject_name)                                                                   \
	X(X509_getm_notAfter)                                                                      \
	X(X509_getm_notBefore)                                                                     \
	X(X509_gmtime_adj)                                                                         \
	X(X509_new)                                                                                \
	X(X509_set_issuer_name)                                                                    \
	X(X509_set_pubkey)                                                                         \
	X(X509_set_version)                                                                        \
	X(X509_sign)

static const char *const names[] = {
#define X(f) #f,
	FUNCTIONS(X)
#undef X
};

/* Not static only for the sake of the jumps below. */
extern void *openssl_table[ARRAY_SIZE(names)] __attribute__((visibility("hidden")));
void *openssl_table[ARRAY_SIZE(names)];

#ifndef __x86_64__
#error "how does this machine jump by a table?"
#endif
__asm__(".pushsection .text\n"
	".set ckpt_openssl_at, 0\n"
#define X(f)                                                                                       \
	".globl " #f "\n\t.type " #f ", @function\n" #f ":\n"                                      \
	"\tjmp *openssl_table+ckpt_openssl_at(%rip)\n\t.size " #f ", . - " #f "\n"                 \
	".set ckpt_openssl_at, ckpt_openssl_at + 8\n"
	FUNCTIONS(X)
#undef X
		".popsection\n");

int openssl_load(struct ckpt_err *err)
{
	void *lib;

	if (openssl_table[0])
		return 0;
	lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return ckpt_remedy(
			(ckpt_fail(err, E_KERNEL, -ELIBACC, "cannot load OpenSSL: %s", dlerror()),
			 err),
			"install OpenSSL 3, or migrate another way: ssh://HOST, unix:PATH");
	/* The first last: it says that all are there. */
	for (size_t i = ARRAY_SIZE(names); i-- > 0;) {
		void *f = dlsym(lib, names[i]);

		if (!f)
			return ckpt_fail(err, E_KERNEL, -ELIBBAD, "%s is not in " LIBRARY,
					 names[i]);
		openssl_table[i] = f;
	}
	return 0;
}
