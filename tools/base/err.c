// SPDX-License-Identifier: GPL-2.0-only
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int status;
	const char *remedy;
} err_ids[E_ID_COUNT] = { [E_NONE] = { "E_NONE", 0, "" },
#define X(id, status, remedy) [id] = { #id, status, remedy },
			  CKPT_ERR_IDS(X)
#undef X
};

static int fail_va(struct ckpt_err *err, enum ckpt_err_id id, int code, int with_errno,
		   const char *fmt, va_list ap)
{
	size_t n;

	if (code >= 0)
		code = -EINVAL;
	if (err->id != E_NONE)
		return err->code;
	err->id = id;
	err->code = code;
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	n = strlen(err->msg);
	if (with_errno)
		(void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(-code));
	return code;
}

int ckpt_fail(struct ckpt_err *err, enum ckpt_err_id id, int code, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = fail_va(err, id, code, 0, fmt, ap);
	va_end(ap);
	return rc;
}

int ckpt_fail_errno(struct ckpt_err *err, enum ckpt_err_id id, int code, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = fail_va(err, id, code, 1, fmt, ap);
	va_end(ap);
	return rc;
}

int ckpt_oom(struct ckpt_err *err)
{
	return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
}

int ckpt_ctx(struct ckpt_err *err, const char *fmt, ...)
{
	char inner[sizeof(err->where)];
	va_list ap;
	size_t n;

	memcpy(inner, err->where, sizeof(inner));
	va_start(ap, fmt);
	(void)vsnprintf(err->where, sizeof(err->where), fmt, ap);
	va_end(ap);
	n = strlen(err->where);
	if (inner[0])
		(void)snprintf(err->where + n, sizeof(err->where) - n, ": %s", inner);
	return err->code;
}

int ckpt_remedy(struct ckpt_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err->remedy, sizeof(err->remedy), fmt, ap);
	va_end(ap);
	return err->code;
}

int ckpt_remedy_of_many(struct ckpt_err *err, size_t n, const char *what, const char *command)
{
	size_t len = strlen(err->remedy);

	(void)snprintf(err->remedy + len, sizeof(err->remedy) - len,
		       "%s%zu things stop this %s; see them all: %s", len ? "; " : "", n, what,
		       command);
	return err->code;
}

const char *ckpt_err_name(enum ckpt_err_id id)
{
	static _Thread_local char name[32];
	size_t i;

	(void)snprintf(name, sizeof(name), "%s",
		       (unsigned)id < E_ID_COUNT ? err_ids[id].name : "E_INTERNAL");
	for (i = 0; name[i]; i++)
		if (name[i] == '_')
			name[i] = '-';
	return name;
}

int ckpt_err_status(const struct ckpt_err *err)
{
	return err->id == E_NONE ? 1 : err_ids[err->id].status;
}

const char *ckpt_err_remedy(const struct ckpt_err *err)
{
	if (!err->remedy[0] && err->code == -EFBIG)
		return "raise the limit of file sizes that ckpt was started with: ulimit -f "
		       "unlimited";
	return err->remedy[0] ? err->remedy : err_ids[err->id].remedy;
}
