// SPDX-License-Identifier: GPL-2.0-only
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int text_scan(const char *text, const char *format, ...)
{
	char head[TEXT_SCAN_MAX + 1];
	va_list args;
	int n;

	*(char *)mempcpy(head, text, strnlen(text, TEXT_SCAN_MAX)) = 0;
	va_start(args, format);
	n = vsscanf(head, format, args);
	va_end(args);
	return n;
}
