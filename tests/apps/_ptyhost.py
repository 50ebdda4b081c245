# SPDX-License-Identifier: GPL-2.0-only
"""Target of bash.py: a small terminal program. Runs bash in a pty and writes what it says to a file.

usage: _ptyhost.py FIFO TRANSCRIPT      what is written to FIFO is typed
"""
import os
import pty
import select
import sys

fifo = os.open(sys.argv[1], os.O_RDWR)          # both ends, so that it never ends
pid, master = pty.fork()
if pid == 0:
    os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
transcript = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
while True:
    ready, _, _ = select.select([fifo, master], [], [])
    if fifo in ready:
        os.write(master, os.read(fifo, 4096))
    if master in ready:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        os.write(transcript, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
