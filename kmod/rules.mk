# SPDX-License-Identifier: GPL-2.0-only
# The kernel module.
#
#	make modules		for every kernel of tests/vm/versions.list, into build/kmod/NAME/ckpt.ko
#	make module KDIR=…	for one kernel: its build directory; default: the running kernel's
#	make modules_install	for the running kernel (or KDIR), below INSTALL_MOD_PATH or DESTDIR
#	make dkms_install	the sources as DKMS wants them, below DESTDIR
#	make check-dkms		both of these tried in a temporary tree, for every kernel
#	make modules-lint	W=1, sparse, clang, Kconfig

KMOD_KERNELS = $(shell awk '!/^ *(\#|$$)/ {print $$1}' tests/vm/versions.list)
KMOD_SRCS := $(wildcard kmod/*.[ch] kmod/compat/*.[ch] kmod/tests/*.c kmod/Kbuild include/uapi/linux/ckpt.h)
# tools/kern/kmod.c is the module's client.
PKGS += libnl-genl-3.0

KDIR ?= /lib/modules/$(shell uname -r)/build

.PHONY: modules module modules_install dkms_install check-dkms modules-lint deps-vm

deps-vm:
	@scripts/deps-vm

# Built in a copy: two kernels may not share one directory of object files. With KUnit tests where the kernel has KUnit.
define kmod_build
	@rm -rf $(1)/src $(1)/*.ko; mkdir -p $(1)/src; cp -r kmod include $(1)/src/
	@$(MAKE) -s -C $(2) M=$(CURDIR)/$(1)/src/kmod $(3) modules \
		$$(grep -sq '^CONFIG_KUNIT=[ym]' $(2)/.config && echo CONFIG_CKPT_KUNIT_TEST=m) 2>&1 | \
		{ grep -v 'Skipping BTF' || :; }
	@cp $(1)/src/kmod/ckpt*.ko $(1)/
endef

# One rule per kernel, as a pattern: build/kmod/6.1/ckpt.ko
build/kmod/%/ckpt.ko: $(KMOD_SRCS) | deps-vm
	@echo '  KMOD    $@'
	$(call kmod_build,build/kmod/$*,build/vm/kernels/$*/build,W=1)

modules: deps-vm
	@$(MAKE) --no-print-directory $(KMOD_KERNELS:%=build/kmod/%/ckpt.ko)

module:
	$(call kmod_build,build/kmod/local,$(KDIR),)

modules_install: module
	@$(MAKE) -s -C $(KDIR) M=$(CURDIR)/build/kmod/local/src/kmod INSTALL_MOD_PATH=$(or $(INSTALL_MOD_PATH),$(DESTDIR)) \
		modules_install

DKMS_SRC = $(DESTDIR)/usr/src/ckpt-$(VERSION)

dkms_install:
	@for f in $(KMOD_SRCS); do install -D -m 644 $$f $(DKMS_SRC)/$$f || exit 1; done
	@sed 's/@VERSION@/$(VERSION)/' kmod/dkms.conf >$(DKMS_SRC)/dkms.conf

check-dkms: deps-vm
	@tests/vm/dkms $(VERSION)

# Anything printed is a failure. Sparse comes with C=2, kernel-doc with W=1.
modules-lint: deps-vm
	@for k in $(KMOD_KERNELS); do \
		d=build/kmod/lint-$$k; rm -rf $$d; mkdir -p $$d/src; cp -r kmod include $$d/src/; \
		out=$$($(MAKE) -s -C build/vm/kernels/$$k/build M=$(CURDIR)/$$d/src/kmod W=1 C=2 \
			CONFIG_DEBUG_INFO_BTF_MODULES= modules 2>&1) || { echo "$$out"; exit 1; }; \
		out=$$(echo "$$out" | grep -v 'Skipping BTF'); \
		if [ -n "$$out" ]; then echo "$$out"; exit 1; fi; \
		scripts/kmod-clang $$d/src/kmod build/vm/kernels/$$k/build || exit 1; \
		tests/vm/kconfig build/vm/kernels/$$k/build || exit 1; \
		echo "  LINT    kmod for $$k: clean with W=1, sparse and clang; Kconfig offers it"; \
	done
