# SPDX-License-Identifier: GPL-2.0-only
"""Target of sqlite.py: writes rows in transactions of 50 until there is a file SAID.stop.

usage: _sqlite.py DATABASE SAID      the number of rows that are committed is written to SAID
"""
import os
import sqlite3
import sys


def program(path, said):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, data BLOB)")
    n = 0
    while not os.path.exists(said + ".stop"):
        db.execute("BEGIN IMMEDIATE")
        for _ in range(50):
            n += 1
            db.execute("INSERT INTO t VALUES (?, ?)", (n, b"%d" % n * 20))
        db.execute("COMMIT")
        with open(said + ".new", "w") as f:
            f.write(str(n))
        os.rename(said + ".new", said)
    # Nobody is to write between these two.
    db.execute("BEGIN EXCLUSIVE")
    print(db.execute("SELECT count(*) FROM t").fetchone()[0] == n)
    db.execute("COMMIT")
    db.close()


program(*sys.argv[1:])
