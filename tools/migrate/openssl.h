/* SPDX-License-Identifier: GPL-2.0-only */
/* OpenSSL is loaded when a link or a key first needs it. */
#ifndef CKPT_MIGRATE_OPENSSL_H
#define CKPT_MIGRATE_OPENSSL_H

#include "base/err.h"

/* Before any other call of OpenSSL. E_KERNEL: its library is not installed. */
int openssl_load(struct ckpt_err *err) __must_check;

#endif
