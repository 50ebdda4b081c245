// SPDX-License-Identifier: GPL-2.0-only
#include "base/ui.h"

void ui_note(struct ckpt_ui *ui, int level, const char *fmt, ...)
{
	va_list ap;

	if (!ui || !ui->note || level > ui->verbose)
		return;
	va_start(ap, fmt);
	ui->note(ui, level, fmt, ap);
	va_end(ap);
}

void ui_warn(struct ckpt_ui *ui, const char *fmt, ...)
{
	va_list ap;

	if (!ui || !ui->warn)
		return;
	va_start(ap, fmt);
	ui->warn(ui, fmt, ap);
	va_end(ap);
}

void ui_progress(struct ckpt_ui *ui, const char *phase, uint64_t done, uint64_t total)
{
	if (ui && ui->progress)
		ui->progress(ui, phase, done, total);
}
