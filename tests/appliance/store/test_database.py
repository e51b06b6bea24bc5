"""The database: atomic transactions, migrations, and messages when it cannot be used."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from appliance.store.database import Database
from appliance.store.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseNewerError,
    StoreError,
)
from appliance.store.migrations import MIGRATIONS, list_migrations

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def migrations(tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_things.sql").write_text("CREATE TABLE things (name TEXT UNIQUE);\nCREATE TABLE more (x);\n")
    return folder


@pytest.fixture
def database(tmp_path, migrations):
    with Database(tmp_path / "a.db", migrations=migrations) as database:
        yield database


def names(database):
    with database.read() as connection:
        return [row["name"] for row in connection.execute("SELECT name FROM things ORDER BY rowid")]


def add(database, name):
    with database.transaction() as connection:
        connection.execute("INSERT INTO things VALUES (?)", (name,))


def tables(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {row[0] for row in rows}, connection.execute("PRAGMA user_version").fetchone()[0]


def hold(path, *, then=""):
    """Hold the write lock from another process until its standard input closes."""
    program = (
        "import sqlite3, sys\n"
        f"c = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        f"{then or 'sys.stdin.read()'}\n"
        "c.execute('ROLLBACK')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_transaction_is_atomic(database):
    add(database, "first")

    def fails():
        with database.transaction() as connection:
            connection.execute("INSERT INTO things VALUES ('second')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()

    assert names(database) == ["first"]


def test_a_transaction_inside_another_is_part_of_it(database):
    def fails():
        with database.transaction():
            add(database, "inner")
            assert names(database) == ["inner"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()

    assert names(database) == []
    add(database, "afterwards")
    assert names(database) == ["afterwards"]


def test_a_broken_constraint_is_the_callers_matter(database):
    add(database, "once")

    with pytest.raises(sqlite3.IntegrityError):
        add(database, "once")

    assert names(database) == ["once"]


def test_many_threads_lose_no_change(database):
    def work(number):
        for count in range(10):
            add(database, f"{number}-{count}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(names(database)) == 80


def test_every_commit_is_on_the_disk_in_wal_mode(database):
    with database.read() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_closed_database_is_reported(database):
    database.close()

    with pytest.raises(StoreError, match="was closed; open it again"):
        names(database)


def test_a_later_migration_is_applied_once_and_a_copy_kept(tmp_path, migrations, database):
    add(database, "kept")
    database.close()
    (migrations / "0002_later.sql").write_text("ALTER TABLE things ADD COLUMN size INTEGER DEFAULT 7;\n")

    for _ in range(2):
        with Database(tmp_path / "a.db", migrations=migrations) as later, later.read() as connection:
            assert [tuple(row) for row in connection.execute("SELECT * FROM things")] == [("kept", 7)]

    (copy,) = (tmp_path / "backups").iterdir()
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == [("kept",)]


def test_a_migration_that_fails_changes_nothing(tmp_path, migrations, database):
    add(database, "kept")
    database.close()
    (migrations / "0002_broken.sql").write_text("CREATE TABLE half (x);\nINSERT INTO nowhere VALUES (1);\n")

    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database(tmp_path / "a.db", migrations=migrations)

    assert tables(tmp_path / "a.db") == ({"things", "more"}, 1)


def test_a_database_of_a_newer_program_is_refused_and_left_unchanged(tmp_path, migrations, database):
    database.close()
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("PRAGMA user_version = 9")
    before = (tmp_path / "a.db").read_bytes()

    with pytest.raises(DatabaseNewerError, match="has version 9, this program knows up to 1: a newer Relume wrote it"):
        Database(tmp_path / "a.db", migrations=migrations)

    assert (tmp_path / "a.db").read_bytes() == before


def test_two_processes_that_begin_at_once_migrate_once(tmp_path):
    program = (
        "from pathlib import Path; from appliance.store.database import Database\n"
        f"Database(Path({str(tmp_path / 'b.db')!r})).close()"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) for _ in range(4)]

    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert tables(tmp_path / "b.db")[1] == list_migrations()[-1].number


def test_migrations_of_one_number_or_a_wrong_name_are_refused(migrations):
    (migrations / "0001_again.sql").write_text("")
    with pytest.raises(StoreError, match="have the same number"):
        list_migrations(migrations)
    (migrations / "0001_again.sql").rename(migrations / "later.sql")
    with pytest.raises(StoreError, match=r"has the wrong name, expected NNNN_name\.sql"):
        list_migrations(migrations)


def test_the_shipped_migrations_are_numbered_without_a_gap():
    assert [entry.number for entry in list_migrations(MIGRATIONS)] == list(
        range(1, len(list(MIGRATIONS.glob("*.sql"))) + 1)
    )


def test_a_lock_of_some_time_is_waited_for(database):
    holder = hold(database.path, then="import time; time.sleep(0.7)")
    with holder:
        add(database, "at last")

    assert names(database) == ["at last"]


def test_a_lock_without_end_is_reported(tmp_path, migrations):
    with Database(tmp_path / "a.db", migrations=migrations, busy_timeout_s=0.2) as database:
        with hold(database.path) as holder:
            with pytest.raises(
                DatabaseBusyError, match=r"locked by another program for more than 0\.2 s; close that program"
            ):
                add(database, "never")
            assert names(database) == []
            holder.stdin.close()
        add(database, "now")
        assert names(database) == ["now"]


@pytest.mark.parametrize("damage", ["no database", "cut", "scrambled"])
def test_a_damaged_file_is_named_and_left_unchanged(tmp_path, migrations, database, damage):
    with database.transaction() as connection:
        connection.executemany("INSERT INTO things VALUES (?)", [(f"a long name {n}",) for n in range(5000)])
    database.close()
    path = tmp_path / "a.db"
    content = bytearray(path.read_bytes())
    if damage == "no database":
        content[:] = b"something else " * 1000
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[4096:] = bytes(byte ^ 0x5A for byte in content[4096:])
    path.write_bytes(content)

    with pytest.raises(DatabaseDamagedError, match=r"is damaged \(.*left unchanged. Put a backup from .*backups"):
        Database(path, migrations=migrations, check=True)

    assert path.read_bytes() == content


def test_a_full_disk_is_reported_and_nothing_is_lost(tmp_path):
    """The limit on a file's size stands in for a full disk: the kernel refuses to extend the file."""
    program = f"""
import resource, signal
from pathlib import Path
from appliance.store.database import Database
from appliance.store.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, folder = Path({str(tmp_path / "a.db")!r}), Path({str(tmp_path / "migrations")!r})
folder.mkdir()
(folder / "0001_things.sql").write_text("CREATE TABLE things (name TEXT);")
with Database(path, migrations=folder) as database:
    with database.transaction() as connection:
        connection.execute("INSERT INTO things VALUES ('kept')")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        with database.transaction() as connection:
            connection.executemany("INSERT INTO things VALUES (?)", [("x" * 1000,)] * 1000)
    except StoreError as error:
        print(error)
    with database.read() as connection:
        print([row[0] for row in connection.execute("SELECT name FROM things")])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    said, kept = done.stdout.splitlines()
    assert "is the disk full" in said or "no space is left" in said
    assert kept == "['kept']"


def test_a_place_that_cannot_be_written_is_reported(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened for writing"):
        Database(tmp_path / "missing" / "a.db")


def test_a_backup_is_a_whole_database(tmp_path, database):
    add(database, "kept")

    with database.transaction() as connection:
        connection.execute("SELECT 1")
    database.backup(tmp_path / "copy.db")

    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("kept",)]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_what_is_left_for_after_a_transaction_is_done_once_others_can_write_and_never_after_a_failure(tmp_path):
    done = []
    with Database(tmp_path / "a.db") as database, Database(tmp_path / "a.db", busy_timeout_s=0.0) as other:

        def act() -> None:
            with other.transaction() as connection:  # would be refused while the first one is held
                connection.execute("CREATE TABLE t" + str(len(done)) + " (a)")
            done.append("act")

        with database.transaction():
            with database.transaction():
                database.after_commit(act)
            database.after_commit(act)
            assert done == []
        assert done == ["act", "act"]

        def fail() -> None:
            with database.transaction():
                database.after_commit(act)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            fail()
        assert done == ["act", "act"]

        database.after_commit(act)
        assert done == ["act", "act", "act"]


def test_what_need_not_last_waits_for_no_disk_and_everything_else_does(tmp_path):
    with Database(tmp_path / "a.db") as database:
        with database.transaction(durable=False) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone()[0] == 1
            with database.transaction() as same:
                assert same is connection
        with pytest.raises(ValueError, match="no"), database.transaction(durable=False):
            raise ValueError("no")
        with database.transaction() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_bytes_that_changed_inside_a_text_are_reported_as_damage(tmp_path):
    with Database(tmp_path / "a.db") as database:
        with database.transaction() as connection:
            connection.execute("CREATE TABLE texts (text TEXT)")
            connection.execute("INSERT INTO texts VALUES (CAST(x'61ff62' AS TEXT))")
        with pytest.raises(DatabaseDamagedError, match=r"is damaged .*UTF-8"), database.read() as connection:
            connection.execute("SELECT text FROM texts").fetchone()
