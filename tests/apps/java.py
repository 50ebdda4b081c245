# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300 needs=tool:java
"""The Java virtual machine: threads, its collector, compiled code, direct and mapped buffers, timers."""
import os
import struct

from _app import HERE, Chains, Line, can_connect, check, data_hash, free_port, main, need_tool

CHAINS = 4


def body(app):
    port = free_port()
    address = ("127.0.0.1", port)
    app.start([need_tool("java"), "-Xmx256m", os.path.join(HERE, "_Heap.java"), str(port),
               os.path.join(app.dir, "mapped")], "java")
    app.ready(lambda: can_connect(address), "the server answers", timeout=120)
    chains = Chains(CHAINS)
    h = data_hash()
    for factor in (31, 17):
        h.update(b"".join(struct.pack(">q", at * factor) for at in range(0, 1 << 20, 8)))
    data = h.hexdigest()

    def verify(when):
        with Line(address) as line:
            check(line.ask("data") == data, f"the data is right {when}")
            ticks, garbage = int(line.ask("ticks")), int(line.ask("garbage"))
            check(line.ask("gc") == "ok", f"memory is collected {when}")
            chains.verify(app, line, when)
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
