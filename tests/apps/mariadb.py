# SPDX-License-Identifier: GPL-2.0-only
# t: timeout=240 needs=tool:mariadbd
"""MariaDB with InnoDB: rows, prepared transactions, threads and files live on, also from increments."""
import os
import subprocess

import sandbox
from _app import check, main, need_tool

ROWS = 2000


class Database:
    def __init__(self, app):
        self.app = app
        self.socket = os.path.join(app.dir, "socket")
        self.rows = 0

    def start(self):
        data = os.path.join(self.app.dir, "data")
        made = self.app.box.run([need_tool("mariadb-install-db"), "--no-defaults", "--user=root", f"--datadir={data}",
                                 "--auth-root-authentication-method=normal"], timeout=120, name="mariadb-install-db")
        check(made.code == 0, f"{made}")
        self.app.start([need_tool("mariadbd"), "--no-defaults", "--user=root", f"--datadir={data}",
                        f"--socket={self.socket}", "--skip-networking", "--innodb-buffer-pool-size=64M",
                        "--innodb-use-native-aio=0"], "mariadbd")
        self.app.ready(self.answers, "mariadbd answers", timeout=60)

    def run(self, text):
        return subprocess.run(["mariadb", "--no-defaults", "-uroot", f"--socket={self.socket}", "-N", "-B"], input=text,
                              capture_output=True, text=True, check=False)

    def answers(self):
        return os.path.exists(self.socket) and self.run("select 1").stdout == "1\n"

    def sql(self, text):
        res = self.run(text)
        check(res.returncode == 0, f"{text[:60]}: {res.stderr}")
        return res.stdout.strip()

    def write(self):
        self.sql("insert into t.a (v) values " + ",".join(f"('{i:0100}')" for i in range(ROWS)))
        self.rows += ROWS

    def verify(self, when):
        have = self.sql("select count(*), count(distinct id), sum(v) from t.a")
        want = f"{self.rows}\t{self.rows}\t{self.rows // ROWS * sum(range(ROWS))}"
        check(have == want, f"the rows are there {when}: {have}, not {want}")
        check(self.sql("check table t.a").endswith("OK"), f"the table is right {when}")
        self.write()


def body(app):
    db = Database(app)
    db.start()
    db.sql("create database t; create table t.a (id int auto_increment primary key, v varchar(200)) engine=innodb")
    db.write()
    db.verify("at the start")
    app.copy()
    db.verify("after a copy")
    db.sql("xa start 'x'; insert into t.a (v) values ('0'); xa end 'x'; xa prepare 'x'")
    for turn in range(2):
        app.move()
        check("x" in db.sql("xa recover"), "the prepared transaction is there")
        if turn:
            db.sql("xa rollback 'x'")
        db.verify(f"after restore {turn + 1}")
    if not app.control:
        images = [os.path.join(app.dir, f"chain{i}") for i in range(3)]
        app.box.dump(app.target, "--track", image=images[0])
        db.write()
        app.box.dump(app.target, "--parent", images[0], image=images[1])
        db.write()
        app.box.dump(app.target, "--parent", images[1], "--kill", image=images[2])
        app.box.restore(image=images[2])
        check(sandbox.alive(app.target.pid), "mariadbd is there after a restore")
    db.verify("after the restore of an increment")
    app.stop()


main(body)
