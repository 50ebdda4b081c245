# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=120
"""SQLite in Python, in WAL mode: saved in the middle of transactions, with its locks; no row is lost and the file is whole."""
import os
import sqlite3

from _app import HERE, PYTHON, check, main, read


def body(app):
    path, said = os.path.join(app.dir, "db"), os.path.join(app.dir, "said")
    app.start([PYTHON, "-B", os.path.join(HERE, "_sqlite.py"), path, said], "sqlite")

    def done():
        return int(read(said) or 0)

    app.ready(lambda: done() > 500, "rows are written")
    for turn in range(3):
        before = done()
        if turn == 0:
            app.copy()
        else:
            app.move()
        app.ready(lambda: done() > before + 500, f"rows are written after checkpoint {turn + 1}")
        # Another process reads meanwhile: locks and the shared index of the log are those of the program.
        with sqlite3.connect(path, timeout=20) as other:
            rows = other.execute("SELECT count(*) FROM t").fetchone()[0]
        other.close()
        check(rows >= before and rows % 50 == 0, f"a reader sees whole transactions: {rows}")
    with open(said + ".stop", "w"):
        pass
    status = app.box.wait_pid(app.target.pid, "end of the program")
    check(status == 0 and "True" in read(os.path.join(app.dir, "log")), f"its own count: {app.target.why()}")
    with sqlite3.connect(path) as db:
        check(db.execute("PRAGMA integrity_check").fetchone()[0] == "ok", "the file is whole")
        bad = db.execute("SELECT count(*) FROM t WHERE data != CAST(replace(hex(zeroblob(10)), '00', n) || "
                         "replace(hex(zeroblob(10)), '00', n) AS BLOB)").fetchone()[0]
        check(bad == 0, f"{bad} rows differ")


main(body, network=False)
