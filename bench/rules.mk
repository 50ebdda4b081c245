# SPDX-License-Identifier: GPL-2.0-only
# Included by the Makefile.
.PHONY: bench bench-migrate
bench: all
	@bench/run $(BENCHARGS)

bench-migrate: all
	@bench/migrate $(BENCHARGS)
