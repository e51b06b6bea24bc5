"""Log-ins of browsers: a random secret in a cookie, of which the database keeps only the hash."""

import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from appliance.accounts.audit import Actor, record
from appliance.accounts.caller import Caller
from appliance.accounts.roles import Role
from appliance.accounts.secrets import csrf_of, hash_secret, new_secret
from appliance.store.database import Database

_TOUCH_EVERY_S: Final = 60.0
_MOST_PER_USER: Final = 50


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a log-in lasts without use, and in any case."""

    idle_s: float = 86_400.0
    longest_s: float = 14 * 86_400.0


@dataclass(frozen=True, slots=True)
class NewSession:
    """A log-in that was just made; the secret is for the cookie alone."""

    secret: str
    caller: Caller


class Sessions:
    """The log-ins of a box."""

    def __init__(self, database: Database, limits: SessionLimits) -> None:
        self._database, self._limits = database, limits
        self._touched: dict[str, float] = {}

    def open(self, connection: sqlite3.Connection, user_id: str, address: str, *, old: str | None) -> NewSession:
        """Log a user in, within a running transaction.

        The secret is always new, and the one that the browser came with is ended: a secret that someone else put
        there is worth nothing afterwards.
        """
        now, secret = time.time(), new_secret()
        if old is not None:
            connection.execute("DELETE FROM sessions WHERE secret_hash = ?", (hash_secret(old),))
        connection.execute(
            "DELETE FROM sessions WHERE last_seen_at < ? OR created_at < ?",
            (now - self._limits.idle_s, now - self._limits.longest_s),
        )
        connection.execute(
            "DELETE FROM sessions WHERE user_id = ?1 AND secret_hash NOT IN "
            "(SELECT secret_hash FROM sessions WHERE user_id = ?1 ORDER BY last_seen_at DESC LIMIT ?2)",
            (user_id, _MOST_PER_USER - 1),
        )
        connection.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (hash_secret(secret), user_id, now, now, address)
        )
        connection.execute("UPDATE users SET last_seen_at = ? WHERE id = ?", (now, user_id))
        row = connection.execute("SELECT name, role FROM users WHERE id = ?", (user_id,)).fetchone()
        caller = Caller(
            user_id, row["name"], Role(row["role"]), session=hash_secret(secret), csrf=csrf_of(secret), address=address
        )
        return NewSession(secret, caller)

    def find(self, secret: str, address: str) -> Caller | None:
        """Tell who holds a secret; None if it is unknown or has expired, or the account is switched off."""
        now, key = time.time(), hash_secret(secret)
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT users.id, name, role, sessions.created_at, sessions.last_seen_at "
                "FROM sessions JOIN users ON users.id = user_id WHERE secret_hash = ? AND enabled = 1",
                (key,),
            ).fetchone()
        if row is None or self._expired(row["created_at"], row["last_seen_at"], now):
            return None
        if abs(now - row["last_seen_at"]) > _TOUCH_EVERY_S and self._touched.get(key, 0.0) < now - _TOUCH_EVERY_S:
            # Noted first: of many requests at once only one is to write.
            self._touched = {**self._recent(now), key: now}
            with self._database.transaction() as connection:
                connection.execute("UPDATE sessions SET last_seen_at = ? WHERE secret_hash = ?", (now, key))
                connection.execute("UPDATE users SET last_seen_at = ? WHERE id = ?", (now, row["id"]))
        role = Role(row["role"])
        return Caller(row["id"], row["name"], role, session=key, csrf=csrf_of(secret), address=address)

    def holds(self, session: str) -> bool:
        """Tell whether a log-in, named by the hash of its secret, still counts; asking is no use of it."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT sessions.created_at, sessions.last_seen_at FROM sessions JOIN users ON users.id = user_id "
                "WHERE secret_hash = ? AND enabled = 1",
                (session,),
            ).fetchone()
        return row is not None and not self._expired(row[0], row[1], time.time())

    def end(self, caller: Caller, *, actor: Actor) -> None:
        """Log out."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE secret_hash = ?", (caller.session,))
            record(connection, actor, "logout")

    def _recent(self, now: float) -> dict[str, float]:
        return {key: at for key, at in self._touched.items() if now - _TOUCH_EVERY_S < at <= now}

    def _expired(self, created_at: float, last_seen_at: float, now: float) -> bool:
        return now - last_seen_at > self._limits.idle_s or now - created_at > self._limits.longest_s
