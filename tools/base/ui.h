/* SPDX-License-Identifier: GPL-2.0-only */
/* How libraries tell what they are doing without printing: the command gives callbacks. */
#ifndef CKPT_BASE_UI_H
#define CKPT_BASE_UI_H

#include <stdarg.h>
#include <stdint.h>

struct ckpt_ui {
	int verbose;
	/* A detail worth a line with -v (level 1) or -vv (level 2). */
	void (*note)(struct ckpt_ui *ui, int level, const char *fmt, va_list ap);
	/* Bytes of the current phase; total 0 when unknown. Called from any thread, often. */
	void (*progress)(struct ckpt_ui *ui, const char *phase, uint64_t done, uint64_t total);
	/* Something the user should know though nothing failed. */
	void (*warn)(struct ckpt_ui *ui, const char *fmt, va_list ap);
};

void ui_note(struct ckpt_ui *ui, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void ui_warn(struct ckpt_ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ui_progress(struct ckpt_ui *ui, const char *phase, uint64_t done, uint64_t total);

#endif
