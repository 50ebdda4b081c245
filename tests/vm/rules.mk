# SPDX-License-Identifier: GPL-2.0-only
# The module's tests, in QEMU on each kernel of tests/vm/versions.list.
#
#	make check-vm [VM_ARGS="-k 6.12 'path/*'"]

.PHONY: check-vm

check-vm: modules
	@tests/vm/run $(VM_ARGS)
