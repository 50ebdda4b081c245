# SPDX-License-Identifier: GPL-2.0-only
# Builds the test programs into build/tests/. Included by the Makefile; works alone as well:
#	make -f tests/rules.mk tests
# A test that needs more libraries says so: TEST_LIBS_<name> = -lfoo
# Unit tests are linked with $(TEST_UNIT_OBJS), which the Makefile sets to the program's objects
# without its main().

TEST_CC ?= $(CC)
TEST_CFLAGS ?= -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wno-missing-field-initializers
TEST_PY ?= /usr/bin/python3
TEST_BUILD := $(B)/tests
TEST_KIND := $(patsubst tests/kind/%.c,$(TEST_BUILD)/kind/%,$(wildcard tests/kind/*.c))
TEST_UNIT := $(patsubst tests/unit/%.c,$(TEST_BUILD)/unit/%,$(wildcard tests/unit/*.c))
TEST_PROG := $(patsubst tests/flow/%.c,$(TEST_BUILD)/flow/%,$(wildcard tests/flow/*.c)) \
	     $(patsubst tests/apps/%.c,$(TEST_BUILD)/apps/%,$(wildcard tests/apps/*.c))
TEST_LIB := $(TEST_BUILD)/lib/t.o
TEST_LIBS := -lpthread -lrt
TEST_LIBS_reseal := -lxxhash
# Programs about the very things that AddressSanitizer takes for itself: holes, limits, locks and places of their memory.
TEST_NO_ASAN := task_limits vma_mlock vma_mremap vma_stack mutate busy flat

.PHONY: tests test-programs check-run check-long check-faults check-asan check-bare soak

tests: test-programs
test-programs: $(TEST_KIND) $(TEST_PROG) $(TEST_UNIT)

check-run: tests
	$(TEST_PY) tests/run $(TESTARGS)

# Everything, ckpt as well as the programs that it saves, with AddressSanitizer and UndefinedBehaviorSanitizer.
# Leaks are looked for by the fuzzers: a command that ends leaves its memory to the kernel. What was freed is kept for a while, half
# of what the soak allows.
ASAN_FLAGS := -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
check-asan:
	@scripts/deps
	@$(MAKE) --no-print-directory B=build/asan LINK=shared CFLAGS='-O1 -g $(ASAN_FLAGS)' \
		TEST_CFLAGS='-std=gnu11 -O1 -g $(ASAN_FLAGS)' all test-programs
	T_BUILD=$(CURDIR)/build/asan SOAK_SLACK=64 ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=32 UBSAN_OPTIONS=print_stacktrace=1 \
		$(TEST_PY) tests/run --slow 4 $(if $(TESTARGS),$(TESTARGS),unit kind flow faults apps soak)

# The walks over the fault points again and again, each time in another order, at another moment, and not always where a
# point is met first.
check-faults: all tests
	for seed in $$(seq 1 $${FAULT_ROUNDS:-20}); do \
		WALK_SEED=$$seed $(TEST_PY) tests/run -v --slow 2 faults $(TESTARGS) || exit 1; \
	done

# The README's two commands, and the packages, on a bare Debian 12 made for that (needs debootstrap).
check-bare:
	tests/bare/run $(BARE)

# The tests of tests/soak for long (tests/soak/_soak.py has the parameters); make check runs them for seconds.
soak: all tests
	SOAK_KILLS=$${SOAK_KILLS:-2000} SOAK_SECONDS=$${SOAK_SECONDS:-1800} SOAK_MIGRATIONS=$${SOAK_MIGRATIONS:-200} \
		SOAK_MIB=$${SOAK_MIB:-64} SOAK_IMAGES=$${SOAK_IMAGES:-2000} \
		$(TEST_PY) tests/run -v --jobs 1 --slow 200 soak fuzz/images $(TESTARGS)

# A thousand checkpoints of a program that does everything to its memory, by every tracker that this kernel has.
check-long: all tests
	for t in kmod wp-async soft-dirty none; do \
		T_LONG=$${T_LONG:-1000} T_TRACKER=$$t $(TEST_PY) tests/run -v --jobs 1 --slow 20 -k inc_long || exit 1; \
	done

$(TEST_LIB): tests/lib/t.c tests/lib/t.h
	@mkdir -p $(@D)
	@echo "  TEST    $@"; $(TEST_CC) $(TEST_CFLAGS) -c -o $@ $<

$(TEST_KIND) $(TEST_PROG): $(TEST_BUILD)/%: tests/%.c $(TEST_LIB) tests/lib/t.h
	@mkdir -p $(@D)
	@echo "  TEST    $@"; $(TEST_CC) $(TEST_CFLAGS) -Itests/lib $(TEST_CFLAGS_$(notdir $*)) -o $@ $< \
		$(if $(filter $(notdir $*),$(TEST_NO_ASAN)),-fno-sanitize=address tests/lib/t.c,$(TEST_LIB)) \
		$(TEST_LIBS) $(TEST_LIBS_$(notdir $*))

# A test of several files has the others in a directory.
TEST_MORE_test_track := $(wildcard tests/unit/track/*.c)
$(TEST_BUILD)/unit/test_track: $(wildcard tests/unit/track/*.[ch])

$(TEST_UNIT): $(TEST_BUILD)/unit/%: tests/unit/%.c $(TEST_UNIT_OBJS)
	@mkdir -p $(@D)
	@echo "  TEST    $@"; $(TEST_CC) $(TEST_CFLAGS) $(TEST_UNIT_CFLAGS) -Itools -Itests/lib -o $@ $< $(TEST_MORE_$*) $(TEST_UNIT_OBJS) \
		$(TEST_LIBS) $(TEST_UNIT_LIBS) $(TEST_LIBS_$*)
