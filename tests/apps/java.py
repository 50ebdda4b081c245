# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300 needs=tool:java
"""The Java virtual machine: threads, its collector, compiled code, direct and mapped buffers, timers."""
import hashlib
import os
import struct

from _app import HERE, Line, can_connect, check, free_port, main, need_tool

CHAINS = 4


def body(app):
    port = free_port()
    address = ("127.0.0.1", port)
    app.start([need_tool("java"), "-Xmx256m", os.path.join(HERE, "_Heap.java"), str(port),
               os.path.join(app.dir, "mapped")], "java")
    app.ready(lambda: can_connect(address), "the server answers", timeout=120)
    state = [[0, hashlib.sha256(b"%d" % i).digest()] for i in range(CHAINS)]
    h = hashlib.sha256()
    for i in range(20000):
        h.update(hashlib.sha256(b"data%d" % i).digest())
    for factor in (31, 17):
        h.update(b"".join(struct.pack(">q", at * factor) for at in range(0, 1 << 20, 8)))
    data = h.hexdigest()

    def follow(line, i, when):
        count, digest = line.ask(f"chain {i}").split()
        s = state[i]
        check(int(count) >= s[0], f"chain {i} does not go back {when}")
        while s[0] < int(count):
            s[0], s[1] = s[0] + 1, hashlib.sha256(s[1]).digest()
        check(s[1].hex() == digest, f"chain {i} is right {when}")

    def verify(when):
        with Line(address) as line:
            check(line.ask("data") == data, f"the data is right {when}")
            ticks, garbage = int(line.ask("ticks")), int(line.ask("garbage"))
            check(line.ask("gc") == "ok", f"memory is collected {when}")
            for i in range(CHAINS):
                before = state[i][0]
                follow(line, i, when)
                app.ready(lambda i=i, before=before: int(line.ask(f"chain {i}").split()[0]) > before + 200,
                          f"chain {i} goes on {when}")
            app.ready(lambda: int(line.ask("ticks")) > ticks + 5, f"timers go on {when}")
            app.ready(lambda: int(line.ask("garbage")) > garbage + 2, f"memory is allocated {when}")
            check(line.ask("data") == data, f"the data is right after a collection {when}")

    verify("at the start")
    app.copy("--tcp", "close")
    verify("after a copy")
    for turn in range(3):
        app.move("--tcp", "close")
        verify(f"after restore {turn + 1}")
    app.stop(expect=143)


main(body)
