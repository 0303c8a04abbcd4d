"""SQLite on a mirror, with its log and with its rollback journal: committed rows survive a power
failure, and the database is sound.
"""

import sys
import time
from pathlib import Path

import pytest
from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored

from telamon.lab.host import RunningHost
from telamon.lab.mirror import ALONE, PRIM, SECOND
from telamon.lab.spec import DEFAULT

ROWS = 200

WRITER = """
import itertools, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(f"PRAGMA journal_mode={sys.argv[2]}")
database.execute("PRAGMA synchronous=EXTRA")
database.execute("CREATE TABLE promised (number INTEGER PRIMARY KEY, padding BLOB)")
for number in itertools.count(1):
    database.execute("INSERT INTO promised VALUES (?, randomblob(3000))", (number,))
    print(number, flush=True)
"""

READER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(database.execute("PRAGMA integrity_check").fetchone()[0])
print(database.execute("SELECT max(number), count(*) FROM promised").fetchone())
"""


def last_promised(log: Path) -> int:
    complete, _, _ = log.read_text().rpartition("\n")
    return int(complete.split()[-1]) if complete else 0


@pytest.mark.parametrize("journal", ["WAL", "DELETE", "PERSIST"])
def test_sqlite(lab_name: str, tmp_path: Path, journal: str) -> None:
    database, log = f"{DIRECTORY}/database", tmp_path / "log"
    with mirrored(lab_name, DEFAULT) as mirror:
        with log.open("w") as output:
            writer = mirror.lab.host("n1").start(
                [sys.executable, "-c", WRITER, database, journal],
                stdout=output.fileno(),
                stderr=None,
            )
            deadline = time.monotonic() + STEP_TIMEOUT_S
            while last_promised(log) < ROWS:
                assert time.monotonic() < deadline
                assert writer.poll() is None
                time.sleep(0.02)
            mirror.lab.off("n1")
            RunningHost.end(writer)
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        shown = mirror.lab.host("n2").run([sys.executable, "-c", READER, database]).stdout
        verdict, counts = shown.splitlines()
        assert verdict == "ok"
        highest, count = map(int, counts.strip("()").split(","))
        assert highest == count >= last_promised(log)
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)
