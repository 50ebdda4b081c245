# SPDX-License-Identifier: GPL-2.0-only
"""A file system of one file, /data, whose reads bypass the page cache (the kernel pins the reader's
pages and the answer is written into them) and take as long as asked. Read N is N bytes short and holds N in
each word.

    fs = Slow(folder, seconds)      # mounted in this mount namespace, until the process ends
"""
import ctypes
import os
import struct
import threading
import time

BYTES = 1 << 20
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, INTERRUPT = 1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 36
DIRECT_IO = 1
ENOSYS, ENOENT = 38, 2


class Slow:
    def __init__(self, folder, seconds):
        self.seconds, self.reads = seconds, 0
        self.dev = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.dev},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"ckpt-test", folder.encode(), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "cannot mount fuse")
        self.lock = threading.Lock()
        for _ in range(3):
            threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def attr(node):
        mode, size = (0o40755, 0) if node == 1 else (0o100644, BYTES)
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def reply(self, unique, body=b"", error=0):
        try:
            os.write(self.dev, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)
        except OSError:
            pass    # the request was interrupted, or nobody is there any more

    def serve(self):
        while True:
            try:
                data = os.read(self.dev, 1 << 18)
            except OSError:
                return
            _, op, unique, node = struct.unpack_from("<IIQQ", data)
            if op == INIT:
                major, minor, ahead = struct.unpack_from("<III", data, 40)
                self.reply(unique, struct.pack("<IIIIHHIIHHI", 7, min(minor, 31), ahead, 0, 8, 6, 1 << 17, 1,
                                               32, 0, 0) + bytes(28))
            elif op == LOOKUP:
                if data[40:].rstrip(b"\0") == b"data":
                    self.reply(unique, struct.pack("<QQQQII", 2, 0, 60, 60, 0, 0) + self.attr(2))
                else:
                    self.reply(unique, error=ENOENT)
            elif op == GETATTR:
                self.reply(unique, struct.pack("<QII", 60, 0, 0) + self.attr(node))
            elif op in (OPEN, OPENDIR):
                self.reply(unique, struct.pack("<QII", 0, DIRECT_IO if op == OPEN else 0, 0))
            elif op == READ:
                size, = struct.unpack_from("<I", data, 40 + 16)
                with self.lock:
                    self.reads += 1
                    n = self.reads
                time.sleep(self.seconds)        # this is the device, not a wait for something
                self.reply(unique, (struct.pack("<Q", n) * (size // 8))[:size - n])
            elif op == STATFS:
                self.reply(unique, struct.pack("<5Q4I", 1, 1, 1, 1, 1, 4096, 255, 4096, 0) + bytes(24))
            elif op in (RELEASE, FLUSH):
                self.reply(unique)
            elif op not in (FORGET, INTERRUPT):
                self.reply(unique, error=ENOSYS)
