"""Numbered migrations of the database: `NNNN_name.sql` in this folder, each applied once, in order."""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.store.errors import DatabaseNewerError, StoreError

MIGRATIONS: Final = Path(__file__).parent

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration; `number` is the version of the database after it."""

    number: int
    path: Path


def list_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of a folder in order.

    Raises:
        StoreError: A name is invalid, or a number is used twice.
    """
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise StoreError(f"migration {path} has the wrong name, expected NNNN_name.sql")
        number = int(match[1])
        if number in found:
            raise StoreError(f"migrations {found[number].path} and {path} have the same number; renumber one")
        found[number] = Migration(number, path)
    return [found[number] for number in sorted(found)]


def migrate(connection: sqlite3.Connection, path: Path, folder: Path = MIGRATIONS) -> None:
    """Apply missing migrations; before the first one the database is copied to `backups/` beside it.

    Args:
        connection: An open connection in autocommit mode, outside a transaction.
        path: The database's file.
        folder: The folder of the migrations.

    Raises:
        DatabaseNewerError: The version of the database is unknown.
    """
    migrations = list_migrations(folder)
    newest = migrations[-1].number if migrations else 0
    version = _version(connection)
    if version > newest:
        raise DatabaseNewerError(
            f"the database {path} has version {version}, this program knows up to {newest}: a newer Relume wrote it; "
            f"install that again, or put a backup from {path.parent / 'backups'} in its place"
        )
    if version == newest:
        return
    if version:
        _save(connection, path, version)
    for migration in migrations:
        _apply(connection, migration)


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have applied it meanwhile.
        if _version(connection) < migration.number:
            for statement in _statements(migration.path.read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {migration.number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(text: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would commit the transaction."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _save(connection: sqlite3.Connection, path: Path, version: int) -> None:
    folder = path.parent / "backups"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} for a copy of the database cannot be created: {error.strerror}"
        ) from error
    target = folder / f"{path.stem}-version-{version}-{time.strftime('%Y%m%d-%H%M%S')}.db"
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
