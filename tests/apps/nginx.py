# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180 needs=tool:nginx
"""nginx: master and workers of another user serve, reload and rotate their log after a restore."""
import hashlib
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request

import sandbox
from _app import can_connect, check, free_port, main, need_tool, read

CONFIG = """
daemon off;
master_process on;
worker_processes 3;
user nobody nogroup;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/tmp-body;
    proxy_temp_path {dir}/tmp-proxy;
    fastcgi_temp_path {dir}/tmp-fastcgi;
    uwsgi_temp_path {dir}/tmp-uwsgi;
    scgi_temp_path {dir}/tmp-scgi;
    limit_req_zone $uri zone=z:1m rate=1000r/s;
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{ root {dir}/www; }}
        location /version {{ return 200 "{version}"; }}
        location /limited {{ limit_req zone=z burst=100; return 200 "ok"; }}
    }}
}}
"""


def body(app):
    port = free_port()
    www = os.path.join(app.dir, "www")
    os.mkdir(www)
    rng = random.Random(1)
    files = {}
    for size in (0, 1, 4096, 100_000, 3_000_000):
        data = rng.randbytes(size)
        files[f"f{size}"] = hashlib.sha256(data).hexdigest()
        with open(os.path.join(www, f"f{size}"), "wb") as f:
            f.write(data)
    conf = os.path.join(app.dir, "nginx.conf")

    def configure(version):
        with open(conf, "w") as f:
            f.write(CONFIG.format(dir=app.dir, port=port, version=version))

    def get(what):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=20) as r:
            return r.read()

    configure("v0")
    app.start([need_tool("nginx"), "-c", conf, "-e", f"{app.dir}/error.log"], "nginx")
    app.ready(lambda: can_connect(("127.0.0.1", port)), "nginx answers")
    app.ready(lambda: len(sandbox.tree(app.target.pid)) == 4, "three workers are there")

    def verify(when, version):
        for name, digest in files.items():
            check(hashlib.sha256(get(name)).hexdigest() == digest, f"{name} is right {when}")
        check(get("version").decode() == version, f"the configuration is the right one {when}")
        check(get("limited") == b"ok", f"memory shared between workers works {when}")

    stop, errors, done = threading.Event(), [], [0]

    def load():
        """Downloads without end; a broken connection is tried again, a wrong byte is an error."""
        while not stop.is_set():
            try:
                if hashlib.sha256(get("f3000000")).hexdigest() != files["f3000000"]:
                    errors.append("a download had wrong bytes")
                done[0] += 1
            except urllib.error.HTTPError as e:
                errors.append(str(e))
            except Exception:       # cut in the middle: expected of a server that was killed
                time.sleep(0.02)

    verify("at the start", "v0")
    threads = [threading.Thread(target=load, daemon=True) for _ in range(2)]
    for t in threads:
        t.start()
    for turn in range(3):
        before = done[0]
        app.ready(lambda: done[0] > before + 5, "downloads go on")
        workers = sorted(sandbox.tree(app.target.pid))
        app.move("--tcp", "close")
        check(sorted(sandbox.tree(app.target.pid)) == workers, "master and workers have their pids")
        verify(f"after restore {turn + 1}", f"v{turn}")
        configure(f"v{turn + 1}")
        os.kill(app.target.pid, signal.SIGHUP)
        app.ready(lambda: get("version").decode() == f"v{turn + 1}", "the master reloads")
        app.ready(lambda: not set(sandbox.tree(app.target.pid)) & set(workers[1:]), "the old workers end")
        app.ready(lambda: len(sandbox.tree(app.target.pid)) == 4, "new workers are there")
    stop.set()
    for t in threads:
        t.join(30)
    check(not errors, "; ".join(errors[:3]))
    os.rename(f"{app.dir}/access.log", f"{app.dir}/access.old")
    os.kill(app.target.pid, signal.SIGUSR1)
    app.ready(lambda: os.path.exists(f"{app.dir}/access.log"), "the log is opened anew")
    get("f1")
    app.ready(lambda: "/f1" in read(f"{app.dir}/access.log"), "and written")
    app.stop()


main(body)
