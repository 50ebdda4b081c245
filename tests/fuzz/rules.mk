# SPDX-License-Identifier: GPL-2.0-only
# Fuzzers, with clang's libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer. Included by the Makefile.
#	make fuzz FUZZ_SECONDS=3600	long, FUZZ=NAME one of them; a short run of each is part of make check
#	make corpus			inputs from real checkpoints (root), to be looked at before they are committed
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(wildcard tests/fuzz/*.c))
FUZZ_FLAGS := -std=gnu11 -g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=undefined -fno-strict-aliasing
FUZZ_SRCS := $(filter-out tools/cmd/%,$(SRCS))
FUZZ_OBJS := $(FUZZ_SRCS:tools/%.c=$(B)/obj-fuzz/%.o) $(PB_C:$(B)/proto/%.c=$(B)/obj-fuzz/proto/%.o)
FUZZ_SECONDS ?= 600
FUZZ ?= $(notdir $(FUZZERS))
.PHONY: corpus

tests: $(FUZZERS)

$(B)/obj-fuzz/%.o: tools/%.c $(PB_H)
	@mkdir -p $(@D); echo '  FUZZ    $@'
	@clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined $(CPPFLAGS_ALL) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj-fuzz/proto/%.o: $(B)/proto/%.c
	@mkdir -p $(@D)
	@clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined $(CPPFLAGS_ALL) $(PKG_CFLAGS) -c -o $@ $<

# A fuzzer may bring its own of what it must not really do, which comes first; the rest is from here.
$(B)/obj-fuzz/ckpt.a: $(FUZZ_OBJS) $(B)/obj/blob/trampoline.o
	@rm -f $@; ar rcs $@ $^

$(FUZZERS): $(B)/tests/fuzz/%: tests/fuzz/%.c $(wildcard tests/fuzz/*.h) $(B)/obj-fuzz/ckpt.a
	@mkdir -p $(@D); echo '  FUZZ    $@'
	@clang $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -Wl,--allow-multiple-definition \
		$(CPPFLAGS_ALL) $(PKG_CFLAGS) -o $@ $< $(B)/obj-fuzz/ckpt.a $(PKG_LIBS)

# In a folder that everybody can reach: some give up their rights. What they find comes into build/fuzz/NAME.
fuzz: $(FUZZERS)
	@for f in $(FUZZ); do \
		mkdir -p $(B)/fuzz/$$f && d=$$(mktemp -d /var/tmp/ckpt-fuzz-XXXXXX) && mkdir $$d/c && \
		cp -r tests/fuzz/corpus/$$f/. $(B)/fuzz/$$f/. $$d/c && chmod -R a+rwX $$d || exit 1; \
		T_DIR=$$d ASAN_OPTIONS=allocator_may_return_null=1 unshare --pid --fork --kill-child --mount-proc $(B)/tests/fuzz/$$f \
			-max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=3000 -artifact_prefix=$$d/$$f- $$d/c; rc=$$?; \
		cp -r $$d/c/. $(B)/fuzz/$$f; mv $$d/$$f-* $(B)/fuzz/ 2>/dev/null; rm -rf $$d; \
		[ $$rc = 0 ] || exit 1; \
	done

corpus: all tests
	@tests/fuzz/make-corpus

-include $(FUZZ_OBJS:.o=.d)
