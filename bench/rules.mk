# SPDX-License-Identifier: GPL-2.0-only
# Included by the Makefile. BENCH_QUICK=1: in minutes; BENCH_ROUNDS: other than ten; BENCH_OUT: where the results go.
.PHONY: bench bench-migrate bench-guest bench-report
bench: all tests modules
	@bench/all

bench-migrate: all
	@bench/migrate $(BENCHARGS)
	@bench/report

bench-guest: all tests modules
	@bench/guest $(BENCHARGS)
	@bench/report

bench-report:
	@bench/report $(or $(BENCH_OUT),bench/results)
