# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=300 needs=tool:go
"""A static Go binary: goroutines on tiny stacks, preemption signals, and a huge reservation."""
import os

import sandbox
from _app import HERE, Chains, Line, can_connect, check, data_hash, free_port, main, need_tool

CHAINS = 8


def build(app):
    """Compile once; the result stays in the build tree."""
    source = os.path.join(HERE, "static.go")
    out = os.path.join(sandbox.BUILD, "tests/apps/static-go")
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(out), exist_ok=True)
        env = {"PATH": os.environ["PATH"], "HOME": app.dir, "CGO_ENABLED": "0", "GO111MODULE": "off",
               "GOCACHE": os.path.join(sandbox.BUILD, "tests/go-cache"), "GOTOOLCHAIN": "local"}
        res = app.box.run([need_tool("go"), "build", "-o", out + ".new", source], timeout=200, env=env, name="go")
        check(res.code == 0, f"{res}")
        os.rename(out + ".new", out)
    return out


def body(app):
    port = free_port()
    address = ("127.0.0.1", port)
    app.start([build(app), str(port)], "static-go")
    app.ready(lambda: can_connect(address), "the server answers")
    chains = Chains(CHAINS)
    h = data_hash()

    def verify(when):
        with Line(address) as line:
            hops, ticks = int(line.ask("hops")), int(line.ask("ticks"))
            chains.verify(app, line, when)
            check(line.ask("data") == f"20000 {h.hexdigest()}", f"the data is right {when}")
            app.ready(lambda: int(line.ask("hops")) > hops + 1000, f"the ring turns {when}")
            app.ready(lambda: int(line.ask("ticks")) > ticks + 5, f"timers go on {when}")

    verify("at the start")
    app.copy("--tcp", "close")
    verify("after a copy")
    for turn in range(4):
        app.move("--tcp", "close")
        verify(f"after restore {turn + 1}")
    app.stop(expect=None)


main(body)
