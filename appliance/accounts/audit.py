"""The record of who did what: only ever added to, in the same transaction as the deed itself."""

import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from appliance.store.database import Database

_MAX_DETAIL: Final = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something; `id` is None for someone who is not logged in and for the command line."""

    id: str | None
    name: str
    address: str = ""


COMMAND_LINE: Final = Actor(None, "command line")
NOBODY: Final = "not logged in"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed; `at` is seconds since 1970, UTC."""

    id: int
    at: float
    who: str
    what: str
    detail: str
    address: str


def record(connection: sqlite3.Connection, actor: Actor, what: str, detail: str = "") -> None:
    """Add a deed within a running transaction; never put a password or a secret in the detail."""
    connection.execute(
        "INSERT INTO audit (at, user_id, who, what, detail, address) VALUES (?, ?, ?, ?, ?, ?)",
        (time.time(), actor.id, actor.name, what, detail[:_MAX_DETAIL], actor.address),
    )


class Audit:
    """The record, to read and to add deeds that change no other table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, actor: Actor, what: str, detail: str = "") -> None:
        """Add a deed."""
        with self._database.transaction() as connection:
            record(connection, actor, what, detail)

    def list(self, *, limit: int = 100, offset: int = 0) -> tuple[list[AuditEntry], int]:
        """Return deeds, the latest first, and how many there are in all."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, at, who, what, detail, address FROM audit ORDER BY id DESC LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
            (total,) = connection.execute("SELECT COUNT(*) FROM audit").fetchone()
        return [AuditEntry(*row) for row in rows], total
