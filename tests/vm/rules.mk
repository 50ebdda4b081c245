# SPDX-License-Identifier: GPL-2.0-only
# The module's tests, in QEMU on each kernel of tests/vm/versions.list.
#
#	make check-vm [VM_ARGS="-k 6.12 'path/*'"]	VM_APPEND=vm_long: stress for longer; VM_JOBS=1: one guest at a time
#	make check-vm-user	ckpt itself in the guests
#	make check-vm-nodes	a program moves from guest to guest
#	make check-debug	the same on a kernel with KASAN, UBSAN, PROVE_LOCKING, DEBUG_VM, kmemleak:
#				the parts of debug-parts in one guest after the other, each with its own limit;
#				a kernel is built first, once; DEBUG_PARTS="paths stress" for some
#	make check-vm-long	a thousand checkpoints by every tracker in each guest, samples restored; slab caches
#				must not grow: hours; VM_COUNT=100 VM_TRACKERS=kmod: less; VM_ARGS="-k 6.1"

.PHONY: check-vm check-vm-user check-vm-nodes check-vm-long check-debug

check-vm: modules
	@tests/vm/run $(VM_ARGS)
	@$(MAKE) --no-print-directory check-vm-user
	@$(MAKE) --no-print-directory check-vm-nodes

# ckpt itself in the guests: every tracker that the kernel has. Then what was saved on the one is restored on the other.
check-vm-user: modules all tests
	@tests/vm/user
	@tests/vm/user -k 6.12 -f tests/vm/cross.sh -i build/vm/user.6.1.out

check-vm-nodes: modules all
	@tests/vm/nodes

check-vm-long: modules all tests
	@VM_SECONDS=$${VM_SECONDS:-21600} \
		VM_APPEND="slab_nomerge vm_count=$${VM_COUNT:-1000} vm_trackers=$${VM_TRACKERS:-kmod,soft-dirty,wp-async}" \
		tests/vm/user $(VM_ARGS) -f tests/vm/long.sh

check-debug: deps-vm
	@tests/vm/debug-kernel
	@$(MAKE) --no-print-directory build/kmod/6.1-debug/ckpt.ko
	@tests/vm/check-debug $(DEBUG_PARTS)

# Ratios of instructions, which repeat: one CPU, virtual time. Never its seconds. Into bench/results.
.PHONY: bench-vm
bench-vm: bench-guest
