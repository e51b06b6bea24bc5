"""The audit log: append-only, and written in the same transaction as the change itself."""

import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from appliance.accounts.principal import Actor
from appliance.store.database import Database

_MAX_DETAIL: Final = 500


COMMAND_LINE: Final = Actor(None, "command line")
NOT_LOGGED_IN: Final = "not logged in"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action; `at` is seconds since 1970, UTC."""

    id: int
    at: float
    who: str
    what: str
    detail: str
    address: str


def record(connection: sqlite3.Connection, actor: Actor, what: str, detail: str = "") -> None:
    """Add an action within a transaction; the detail must never contain a password or a secret."""
    connection.execute(
        "INSERT INTO audit (at, user_id, who, what, detail, address) VALUES (?, ?, ?, ?, ?, ?)",
        (time.time(), actor.id, actor.name, what, detail[:_MAX_DETAIL], actor.address),
    )


class Audit:
    """Reads the audit log, and adds actions that change no other table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, actor: Actor, what: str, detail: str = "") -> None:
        """Add an action."""
        with self._database.transaction() as connection:
            record(connection, actor, what, detail)

    def list(self, *, limit: int = 100, offset: int = 0) -> tuple[list[AuditEntry], int]:
        """Return a page of actions, newest first, and the total number."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, at, who, what, detail, address FROM audit ORDER BY id DESC LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
            (total,) = connection.execute("SELECT COUNT(*) FROM audit").fetchone()
        return [AuditEntry(*row) for row in rows], total
