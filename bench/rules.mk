# SPDX-License-Identifier: GPL-2.0-only
# Included by the Makefile.
.PHONY: bench
bench: all
	@bench/run $(BENCHARGS)
