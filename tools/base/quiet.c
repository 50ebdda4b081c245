// SPDX-License-Identifier: GPL-2.0-only
#include "base/quiet.h"

#include <signal.h>

int quiet_thread(pthread_t *ret, void *(*run)(void *), void *arg)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(ret, NULL, run, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}
