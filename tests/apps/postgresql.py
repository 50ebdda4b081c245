# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=180 needs=file:/usr/lib/postgresql/15/bin/postgres
"""PostgreSQL as its own user, with transactions in flight: what was committed is there, and the books balance."""
import os
import pwd
import shutil
import signal
import subprocess

from _app import check, free_port, main

BIN = "/usr/lib/postgresql/15/bin"
SUMS = ("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
        "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")


def body(app):
    user = pwd.getpwnam("postgres")
    home = os.path.join(app.dir, "pg")
    os.mkdir(home)
    os.chown(home, user.pw_uid, user.pw_gid)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    port = str(free_port())
    res = app.box.run([*as_user, f"{BIN}/initdb", "-D", f"{home}/data", "-A", "trust", "-N", "--locale=C", "-E", "UTF8",
                       "--no-instructions"])
    check(res.code == 0, f"initdb: {res}")
    app.start([*as_user, f"{BIN}/postgres", "-D", f"{home}/data", "-p", port, "-k", home, "-c",
               "listen_addresses=127.0.0.1", "-c", "fsync=off"], "postgres", cwd=home)
    there = ["-h", "127.0.0.1", "-p", port, "-U", "postgres"]

    def sql(text, must=True):
        res = subprocess.run([f"{BIN}/psql", *there, "-X", "-A", "-t", "-c", text, "postgres"], capture_output=True,
                             text=True, check=False, timeout=60)
        check(res.returncode == 0 or not must, f"psql: {res.stderr}")
        return res.stdout.strip() if res.returncode == 0 else None

    app.ready(lambda: sql("SELECT 1", must=False) == "1", "PostgreSQL answers")
    res = app.box.run([f"{BIN}/pgbench", *there, "-i", "-q", "-s", "1", "postgres"])
    check(res.code == 0, f"pgbench -i: {res}")
    sql("CREATE TABLE kept (turn int)")

    def done():
        return int(sql("SELECT count(*) FROM pgbench_history"))

    for turn in range(2):
        before = done()
        with open(os.path.join(app.dir, "pgbench.log"), "a") as log:
            load = app.box.spawn([f"{BIN}/pgbench", *there, "-c", "2", "-T", "600", "-n", "postgres"], log, log)
        app.ready(lambda: done() > before + 100, "transactions are made")
        sql(f"INSERT INTO kept VALUES ({turn})")
        if turn == 0:
            app.copy("--tcp", "close")
        app.move("--tcp", "close")
        # Its connections are gone, and most likely it noticed.
        if load.pid not in app.box.status:
            os.kill(load.pid, signal.SIGKILL)
        app.box.wait_pid(load.pid, "end of pgbench")
        load.returncode = -9
        app.ready(lambda: sql("SELECT 1", must=False) == "1", f"PostgreSQL answers after restore {turn + 1}")
        sums = sql(SUMS).split("|")
        check(len(set(sums)) == 1, f"accounts, tellers, branches and history balance: {sums}")
        check(done() >= before + 100, "what was committed is there")
        check(sql("SELECT count(*) FROM kept") == str(turn + 1), "the row that was just committed is there")
    # A worker for each of these is started anew by the postmaster.
    check(sql("SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0; "
              "SELECT count(*) FROM pgbench_accounts").splitlines()[-1] == "100000", "a parallel query")
    sql("VACUUM FULL pgbench_tellers")
    sql("CHECKPOINT")
    app.stop(signal.SIGINT)
    shutil.rmtree(home)


main(body)
