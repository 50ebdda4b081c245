/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_BASE_TEXT_H
#define CKPT_BASE_TEXT_H

#define TEXT_SCAN_MAX 512u

/* sscanf(3) of the beginning of a long text, TEXT_SCAN_MAX bytes at most. The C library's looks for
 * the end of all of it first: line after line, that is the square of the text. */
int text_scan(const char *text, const char *format, ...) __attribute__((format(scanf, 2, 3)));

#endif
