# SPDX-License-Identifier: GPL-2.0-only
# Fuzzers, with clang's libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer. Included by the Makefile.
#	make fuzz FUZZ_SECONDS=3600	long; a short run of each is part of make check (tests/fuzz/smoke.py)
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(wildcard tests/fuzz/*.c))
FUZZ_SRCS := $(wildcard tools/image/*.c tools/base/*.c)
FUZZ_SECONDS ?= 600

tests: $(FUZZERS)

$(FUZZERS): $(B)/tests/fuzz/%: tests/fuzz/%.c $(FUZZ_SRCS) $(wildcard tools/image/*.h tools/base/*.h) $(PB_C) $(PB_H)
	@mkdir -p $(@D); echo '  FUZZ    $@'
	@clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-strict-aliasing \
		$(CPPFLAGS_ALL) $(PKG_CFLAGS) -o $@ $< $(FUZZ_SRCS) $(PB_C) $(PKG_LIBS)

fuzz: $(FUZZERS)
	@for f in $(FUZZERS); do mkdir -p $(B)/fuzz/$${f##*/} && T_DIR=$(B)/fuzz $$f -max_total_time=$(FUZZ_SECONDS) \
		-artifact_prefix=$(B)/fuzz/ $(B)/fuzz/$${f##*/} tests/fuzz/corpus/$${f##*/} || exit 1; done
