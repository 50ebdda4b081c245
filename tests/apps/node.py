# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180 needs=tool:node
"""Node.js: HTTP server, worker thread, thread pool, compiled code and buffers live on."""
import hashlib
import json
import os
import urllib.request

from _app import HERE, can_connect, check, free_port, main, need_tool

SOURCE = os.path.join(HERE, "_node.js")


def body(app):
    port = free_port()
    app.start([need_tool("node"), SOURCE, str(port)], "node")
    app.ready(lambda: can_connect(("127.0.0.1", port)), "node answers")

    def get(what):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=30) as r:
            return json.load(r)

    app.ready(lambda: get("state")["worker"], "the worker counts")
    first = get("data")
    with open(SOURCE, "rb") as f:
        source = hashlib.sha256(f.read()).hexdigest()
    key = hashlib.scrypt(b"a", salt=b"b", n=16384, r=8, p=1, dklen=32).hex()
    chain = {"count": 0, "digest": hashlib.sha256(b"worker").hexdigest()}

    def follow(when):
        now = get("state")["worker"]
        check(now["count"] >= chain["count"], f"the worker's count does not go back {when}")
        while chain["count"] < now["count"]:
            chain["digest"] = hashlib.sha256(chain["digest"].encode()).hexdigest()
            chain["count"] += 1
        check(chain["digest"] == now["digest"], f"the worker's hash is right {when}")

    def verify(when):
        follow(when)
        before = get("state")
        check(get("data") == first, f"map, buffer and compiled code are right {when}")
        check(get("file") == {"err": None, "sha": source}, f"files are read {when}")
        check(get("scrypt") == {"err": None, "key": key}, f"the thread pool works {when}")
        check(get("gc")["length"] == 300000, f"memory is allocated and collected {when}")
        app.ready(lambda: get("state")["ticks"] > before["ticks"] + 5, f"timers go on {when}")
        app.ready(lambda: get("state")["worker"]["count"] > before["worker"]["count"] + 1000,
                  f"the worker goes on {when}")
        follow(f"later {when}")

    verify("at the start")
    app.copy("--tcp", "close")
    verify("after a copy")
    for turn in range(3):
        app.move("--tcp", "close")
        verify(f"after restore {turn + 1}")
    app.stop(expect=-15)


main(body)
