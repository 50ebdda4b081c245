# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120 needs=tool:nginx,tool:nft,tool:ip
"""nginx, a master and two workers of another user, moves to another node with its connections; keep-alive clients
fetch files of several sizes all along, and check every byte."""
import os
import random

from _moved import ADDRESS, PORT, Moved, check, main

CONFIG = """
daemon off;
worker_processes 2;
user nobody nogroup;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {dir}/t1;
    proxy_temp_path {dir}/t2;
    fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4;
    scgi_temp_path {dir}/t5;
    server {{ listen {address}:{port}; location / {{ root {dir}/www; }} }}
}}
"""
FILES = {}


def ask(sock, n):
    name = list(FILES)[n % len(FILES)]
    sock.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        check(more, "the connection ended")
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    check(b" 200 OK" in head and b"Content-Length: %d\r\n" % len(FILES[name]) in head + b"\r\n", head.decode())
    while len(body) < len(FILES[name]):
        more = sock.recv(65536)
        check(more, "the connection ended")
        body += more
    check(body == FILES[name], f"{name} is another")


def body(box):
    m = Moved(box)
    os.mkdir(f"{box.dir}/www")
    rng = random.Random(1)
    for size in (1, 4096, 100_000, 1_000_000):
        FILES[f"f{size}"] = rng.randbytes(size)
        with open(f"{box.dir}/www/f{size}", "wb") as f:
            f.write(FILES[f"f{size}"])
    with open(f"{box.dir}/nginx.conf", "w") as f:
        f.write(CONFIG.format(dir=box.dir, address=ADDRESS, port=PORT))
    m.start(["nginx", "-c", f"{box.dir}/nginx.conf", "-e", f"{box.dir}/error.log"])
    m.move(ask)


main(body)
