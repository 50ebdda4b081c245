# SPDX-License-Identifier: GPL-2.0-only
# ckpt: checkpoint, restore and live migration for Linux programs.

VERSION := 0.1.0
B := build
PREFIX ?= /usr/local
CC := gcc
PKGS := libprotobuf-c libnftnl liburing json-c libxxhash liblz4 libzstd libcap
WARN := -Wall -Wextra -Wshadow -Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wno-missing-field-initializers
CFLAGS ?= -O2 -g
CPPFLAGS_ALL := -D_GNU_SOURCE -DCKPT_VERSION='"$(VERSION)"' -Itools -I$(B)/proto -Iinclude/uapi
CFLAGS_ALL = $(CFLAGS) -std=gnu11 -fno-strict-aliasing $(WARN) $(WERROR) $(CPPFLAGS_ALL) $(PKG_CFLAGS)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) openssl 2>/dev/null)
# The small libraries become part of the program: loading them takes as long as dumping a small process.
# OpenSSL is loaded when it is needed (tools/migrate/openssl.c). For packagers: make LINK=shared
LINK ?= static
# libmnl exists only as a shared library.
PKG_LIBS = $(LINK_$(LINK)) $(shell pkg-config --libs $(PKGS) 2>/dev/null) $(LINK_shared) -lmnl -lpthread
LINK_static := -Wl,-Bstatic
LINK_shared := -Wl,-Bdynamic

PROTOS := $(wildcard proto/*.proto)
PB_C := $(PROTOS:proto/%.proto=$(B)/proto/%.pb-c.c)
PB_H := $(PB_C:.c=.h)
SRCS := $(filter-out tools/blob/%,$(wildcard tools/*/*.c tools/*/*/*.c))
OBJS := $(SRCS:tools/%.c=$(B)/obj/%.o) $(PB_C:$(B)/proto/%.c=$(B)/obj/proto/%.o) $(B)/obj/blob/trampoline.o
TEST_OBJS := $(SRCS:tools/%.c=$(B)/obj-test/%.o) $(filter $(B)/obj/proto/%,$(OBJS)) $(B)/obj/blob/trampoline.o

TEST_UNIT_OBJS = $(filter-out $(B)/obj/cmd/ckpt.o,$(OBJS))
TEST_UNIT_CFLAGS = $(CPPFLAGS_ALL) $(PKG_CFLAGS)
TEST_UNIT_LIBS = $(PKG_LIBS) -lcmocka

.DEFAULT_GOAL := help
# Made from others, but not to be removed.
.SECONDARY: $(PB_C) $(PB_H)
.PHONY: help all deps demo check lint install deb clean fuzz

help:
	@echo 'ckpt: checkpoint, restore and migrate Linux programs'
	@echo
	@echo '  make demo      install what is missing, build, and show it on real programs (root)'
	@echo '  make check     install what is missing, build, and run every test that needs no VM (root)'
	@echo '  make all       build build/ckpt'
	@echo '  make lint      compilers, static analysis, layers, spelling'
	@echo '  make bench     measure against CRIU and the limits of the machine; BENCH_QUICK=1: not for hours (root)'
	@echo '  make fuzz      fuzz the decoders for FUZZ_SECONDS=600 each'
	@echo '  make check-long  a thousand checkpoints by every tracker, for hours (root; T_LONG)'
	@echo '  make check-faults   every fault point in random order, FAULT_ROUNDS=20 times (root)'
	@echo '  make check-bare   demo, check and the packages on a bare Debian 12 (root, debootstrap)'
	@echo '  make check-asan   the tests with a ckpt that is built with sanitizers (root)'
	@echo '  make soak      kill, checkpoint and move programs for about an hour (root; SOAK_KILLS, SOAK_SECONDS)'
	@echo '  make bench-migrate   the pause of a live migration, against CRIU (root)'
	@echo '  make install   PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo '  make deb       Debian packages of the program and of the module, into build/deb'
	@echo '  make modules | check-vm | check-debug   the kernel module and its tests in QEMU'

all: $(B)/ckpt $(B)/ckpt-test

$(B)/ckpt: $(OBJS)
	@echo '  LD      $@'
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

# The same program with named fault points (CKPT_FAULT=point:kill|stop|fail).
$(B)/ckpt-test: $(TEST_OBJS)
	@echo '  LD      $@'
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(B)/obj/%.o: tools/%.c $(PB_H)
	@mkdir -p $(@D); echo '  CC      $@'
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/obj-test/%.o: tools/%.c $(PB_H)
	@mkdir -p $(@D); echo '  CC      $@'
	@$(CC) $(CFLAGS_ALL) -DCKPT_FAULT_POINTS -MMD -MP -c -o $@ $<

$(B)/obj/proto/%.o: $(B)/proto/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -std=gnu11 -I$(B)/proto $(PKG_CFLAGS) -c -o $@ $<

$(B)/proto/%.pb-c.c $(B)/proto/%.pb-c.h: proto/%.proto
	@mkdir -p $(@D); echo '  PROTOC  $<'
	@protoc-c --proto_path=proto --c_out=$(B)/proto $<

# The interpreter that runs inside other programs: one flat, position-independent image.
BLOB_CFLAGS := -O2 -std=gnu11 -Wall -Wextra -Wshadow -ffreestanding -fpie -fvisibility=hidden -nostdlib \
	-mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-jump-tables -fno-asynchronous-unwind-tables \
	-fno-builtin -fno-tree-loop-distribute-patterns -mno-red-zone -Itools
$(B)/blob/blob.bin: tools/blob/entry_x86_64.S tools/blob/interp.c tools/blob/blob.lds tools/blob/step.h
	@mkdir -p $(@D); echo '  BLOB    $@'
	@$(CC) $(BLOB_CFLAGS) -c -o $(B)/blob/interp.o tools/blob/interp.c
	@$(CC) $(BLOB_CFLAGS) -c -o $(B)/blob/entry.o tools/blob/entry_x86_64.S
	@ld -T tools/blob/blob.lds --no-dynamic-linker -o $(B)/blob/blob.elf $(B)/blob/entry.o $(B)/blob/interp.o
	@objcopy -O binary $(B)/blob/blob.elf $@

$(B)/obj/blob/trampoline.o: tools/blob/trampoline_x86_64.S $(B)/blob/blob.bin
	@mkdir -p $(@D)
	@$(CC) -DBLOB_BIN='"$(B)/blob/blob.bin"' -Itools -c -o $@ $<

deps:
	@scripts/deps

demo:
	@scripts/deps
	@$(MAKE) --no-print-directory all
	@scripts/demo

check:
	@scripts/deps
	@$(MAKE) --no-print-directory all tests
	@$(MAKE) --no-print-directory check-run

lint:
	@scripts/deps
	@scripts/lint

install: $(B)/ckpt
	install -D -m 755 $(B)/ckpt $(DESTDIR)$(PREFIX)/sbin/ckpt
	for page in docs/man/*.[578]; do install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
	install -D -m 644 packaging/ckpt.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/ckpt
	install -D -m 644 packaging/_ckpt $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_ckpt
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/ckpt README.md CHANGELOG.md SECURITY.md docs/*.md docs/netlink/ckpt.yaml docs/abi/*

deb: $(B)/ckpt
	@scripts/deb $(VERSION)

clean:
	rm -rf $(B)

-include tests/rules.mk tests/fuzz/rules.mk tests/vm/rules.mk kmod/rules.mk bench/rules.mk
-include $(OBJS:.o=.d) $(TEST_OBJS:.o=.d)
