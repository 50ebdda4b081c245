# SPDX-License-Identifier: GPL-2.0-only
"""Target of python.py: threads that hash without end, and an asyncio server that tells how far they are.

usage: _threads.py SOCKET
"""
import asyncio
import hashlib
import queue
import sys
import threading
import time

THREADS = 6
STEP = 200
ITEMS = 64


class Chain(threading.Thread):
    """h = sha256(h), with the count of steps kept beside it."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.lock = threading.Lock()
        self.count, self.digest = 0, hashlib.sha256(b"%d" % number).digest()

    def run(self):
        while True:
            with self.lock:
                for _ in range(STEP):
                    self.digest = hashlib.sha256(self.digest).digest()
                self.count += STEP
            time.sleep(0.01)


def relay(source, sink):
    """Items go round between threads for ever; none may get lost."""
    while True:
        sink.put(source.get() + 1)
        time.sleep(0.001)


async def main(path):
    chains = [Chain(i) for i in range(THREADS)]
    for c in chains:
        c.start()
    ring = [queue.Queue() for _ in range(3)]
    for i in range(ITEMS):
        ring[0].put(i * 1_000_000)
    for i in range(3):
        threading.Thread(target=relay, args=(ring[i], ring[(i + 1) % 3]), daemon=True).start()
    ticks = 0
    data = {i: hashlib.sha512(b"%d" % i).hexdigest() for i in range(50_000)}

    async def ticker():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def serve(reader, writer):
        loop = asyncio.get_running_loop()
        while line := (await reader.readline()).decode().split():
            if line[0] == "chain":
                c = chains[int(line[1])]
                with c.lock:
                    answer = f"{c.count} {c.digest.hex()}"
            elif line[0] == "ticks":
                answer = str(ticks)
            elif line[0] == "data":
                whole = hashlib.sha256("".join(data[i] for i in range(len(data))).encode())
                answer = f"{len(data)} {whole.hexdigest()}"
            elif line[0] == "thread":       # a new thread, through the loop's pool
                answer = await loop.run_in_executor(None, lambda: str(threading.active_count()))
            elif line[0] == "process":      # a new process, through the loop's child watcher
                p = await asyncio.create_subprocess_exec("expr", *line[1:], stdout=asyncio.subprocess.PIPE)
                answer = (await p.communicate())[0].decode().strip() + f" {p.returncode}"
            elif line[0] == "ring":         # relays hold up to one item each
                answer = str(sum(q.qsize() for q in ring))
            else:
                answer = "what?"
            writer.write(answer.encode() + b"\n")
            await writer.drain()
        writer.close()

    task = asyncio.create_task(ticker())
    server = await asyncio.start_unix_server(serve, path)
    async with server:
        await asyncio.gather(task, server.serve_forever())


asyncio.run(main(sys.argv[1]))
