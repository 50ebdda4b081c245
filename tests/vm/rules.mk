# SPDX-License-Identifier: GPL-2.0-only
# The module's tests, in QEMU on each kernel of tests/vm/versions.list.
#
#	make check-vm [VM_ARGS="-k 6.12 'path/*'"]	VM_APPEND=vm_long: stress for longer; VM_JOBS=1: one guest at a time
#	make check-vm-user	ckpt itself in the guests
#	make check-vm-nodes	a program moves from guest to guest
#	make check-debug	the same on a kernel with KASAN, UBSAN, PROVE_LOCKING, DEBUG_VM, kmemleak:
#				hours, and a kernel is built first; DEBUG_ARGS='session/*' for a part

.PHONY: check-vm check-vm-user check-vm-nodes check-debug

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

check-debug: deps-vm
	@tests/vm/debug-kernel
	@$(MAKE) --no-print-directory build/kmod/6.1-debug/ckpt.ko
	@VM_MB=2560 VM_SECONDS=$${VM_SECONDS:-14400} VM_APPEND="vm_scale=20" \
		tests/vm/run -k 6.1-debug $(if $(DEBUG_ARGS),$(DEBUG_ARGS),'fault/*' 'path/*' 'snapshot/*' 'session/*' 'client/*' 'stress/*killed' 'stress/rmmod*')

# Ratios of instructions, which repeat: one CPU, virtual time. Never its seconds.
.PHONY: bench-vm
bench-vm: modules
	@VM_JOBS=1 VM_CPUS=1 VM_MB=5632 VM_QEMU="-icount shift=0,sleep=off" VM_APPEND="vm_icount vm_scale=10" \
		tests/vm/run $(VM_ARGS) 'figure/*'
