# SPDX-License-Identifier: GPL-2.0-only
"""A thread is stopped a second time before it is back in its program: it stands in front of a restart_syscall that the
kernel has put there. What it waits for goes on after a dump and in the copy: no EINTR, no early end."""
import ctypes
import os
import signal

from sandbox import BUILD, check, main, state, threads

SEIZE, INTERRUPT, GETREGS, SETREGS, DETACH = 0x4206, 0x4207, 12, 13, 17
RAX, ORIG_RAX, RIP, WORDS = 10, 15, 16, 27      # in struct user_regs_struct
WALL, RESTARTBLOCK, RESTART_SYSCALL = 0x40000000, -516, 219
UNKNOWN = 2**64 - 1

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, tid, data=None):
    check(libc.ptrace(request, tid, None, data) == 0, f"ptrace {request} of {tid}: {os.strerror(ctypes.get_errno())}")


def twice(pid, keeps_number):
    """Stop @pid as SIGSTOP does when its threads are about to go on from another stop. @keeps_number: as the kernel leaves
    them then; otherwise as one that came from the program. Returns how many threads were in such a call."""
    found = 0
    os.kill(pid, signal.SIGCONT)
    every = threads(pid)
    for tid in every:
        ptrace(SEIZE, tid)
        ptrace(INTERRUPT, tid)
        os.waitpid(tid, WALL)
        regs = (ctypes.c_ulonglong * WORDS)()
        ptrace(GETREGS, tid, ctypes.byref(regs))
        if regs[RAX] == RESTARTBLOCK % 2**64:
            found += 1
            regs[RAX] = RESTART_SYSCALL
            regs[RIP] -= 2
            if not keeps_number:
                regs[ORIG_RAX] = UNKNOWN
            ptrace(SETREGS, tid, ctypes.byref(regs))
    os.kill(pid, signal.SIGSTOP)
    for tid in every:
        ptrace(DETACH, tid)
    return found


def body(box):
    for keeps_number in (True, False):
        target = box.start(os.path.join(BUILD, "tests", "kind", "task_syscalls"),
                           subdir=f"d{keeps_number}").wait_ready()
        found = twice(target.pid, keeps_number)
        check(found >= 5, f"threads sleep: {found}")
        box.wait(lambda: all(state(target.pid, t) == "T" for t in threads(target.pid)), "all are stopped")
        image = os.path.join(box.dir, f"image-{keeps_number}")
        box.dump(target, image=image)
        box.end_tree(target.pid)
        box.restore(image=image)
        os.kill(target.pid, signal.SIGCONT)
        target.finish()


main(body)
