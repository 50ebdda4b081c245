/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_BASE_QUIET_H
#define CKPT_BASE_QUIET_H

#include <pthread.h>

/* pthread_create(3) of a thread of ckpt's own that no signal is delivered to: they are for who
 * waits for them. */
int quiet_thread(pthread_t *ret, void *(*run)(void *), void *arg);

#endif
