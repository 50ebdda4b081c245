# SPDX-License-Identifier: GPL-2.0-only
# Dump and restore on this kernel: programs that verify themselves, one of each sort.
# Small pages: on 6.1 a huge page that parent and children share was found unshared about once in ten dumps; the contents
# are right then, and saved twice (README, limits).
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
for t in task_thread task_thread_many task_tree task_signals task_daemon vma_cow vma_shmem vma_vdso fd_epoll fd_pty; do
	tests/run --slow 15 -k "kind/$t[" >/tmp/run.log 2>&1
	verdict "restore/$t" $? "$(tail -12 /tmp/run.log)"
done
