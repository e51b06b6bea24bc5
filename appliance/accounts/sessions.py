"""Browser sessions: a random secret in a cookie, of which the database stores only the hash."""

import builtins
import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from appliance.accounts.audit import record
from appliance.accounts.credentials import csrf_token, hash_secret, new_secret
from appliance.accounts.principal import Actor, Principal, Role
from appliance.store.database import Database

_TOUCH_EVERY_S: Final = 60.0
_MAX_PER_USER: Final = 50
_AHEAD_S: Final = 300.0
_MAX_AGENT: Final = 300


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session lasts without activity, and at most."""

    idle_s: float = 86_400.0
    longest_s: float = 14 * 86_400.0


@dataclass(frozen=True, slots=True)
class NewSession:
    """A new session; the secret is only for the cookie."""

    secret: str
    principal: Principal


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as shown to its user; times are seconds since 1970, UTC."""

    key: str
    created_at: float
    last_seen_at: float
    address: str
    agent: str


def short_id(key: str) -> str:
    """Return the public id of a session: part of its hash, which is of no use for logging in."""
    return key[:16]


class Sessions:
    """The sessions of all users."""

    def __init__(self, database: Database, limits: SessionLimits) -> None:
        self._database, self._limits = database, limits
        self._touched: dict[str, float] = {}

    def open(
        self, connection: sqlite3.Connection, user_id: str, address: str, *, old: str | None, agent: str = ""
    ) -> NewSession:
        """Open a session within a transaction.

        The secret is always new and the session that the browser had ends, which prevents session fixation.
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
            (user_id, _MAX_PER_USER - 1),
        )
        connection.execute(
            "INSERT INTO sessions (secret_hash, user_id, created_at, last_seen_at, address, agent) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (hash_secret(secret), user_id, now, now, address, agent[:_MAX_AGENT]),
        )
        connection.execute("UPDATE users SET last_seen_at = ? WHERE id = ?", (now, user_id))
        row = connection.execute("SELECT name, role, must_change FROM users WHERE id = ?", (user_id,)).fetchone()
        caller = Principal(
            user_id,
            row["name"],
            Role(row["role"]),
            session=hash_secret(secret),
            csrf=csrf_token(secret),
            address=address,
            must_change=bool(row["must_change"]),
        )
        return NewSession(secret, caller)

    def find(self, secret: str, address: str) -> Principal | None:
        """Return the user of a secret; None if it is unknown or expired, or the user is disabled."""
        now, key = time.time(), hash_secret(secret)
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT users.id, name, role, must_change, sessions.created_at, sessions.last_seen_at "
                "FROM sessions JOIN users ON users.id = user_id WHERE secret_hash = ? AND enabled = 1",
                (key,),
            ).fetchone()
        if row is None or self._expired(row["created_at"], row["last_seen_at"], now):
            return None
        if abs(now - row["last_seen_at"]) > _TOUCH_EVERY_S and self._touched.get(key, 0.0) < now - _TOUCH_EVERY_S:
            # Updated first: only one of many parallel requests should write.
            self._touched = {**self._recent(now), key: now}
            with self._database.transaction() as connection:
                # Only if it is as it was read: a session that has ended since then must not come back.
                connection.execute(
                    "UPDATE sessions SET last_seen_at = ? WHERE secret_hash = ? AND last_seen_at = ?",
                    (now, key, row["last_seen_at"]),
                )
                connection.execute("UPDATE users SET last_seen_at = ? WHERE id = ?", (now, row["id"]))
        role = Role(row["role"])
        return Principal(
            row["id"],
            row["name"],
            role,
            session=key,
            csrf=csrf_token(secret),
            address=address,
            must_change=bool(row["must_change"]),
        )

    def has_expired(self, secret: str) -> bool:
        """Return True if the session of a secret exists but has expired."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT created_at, last_seen_at FROM sessions WHERE secret_hash = ?", (hash_secret(secret),)
            ).fetchone()
        return row is not None and self._expired(row["created_at"], row["last_seen_at"], time.time())

    @property
    def idle_hours(self) -> float:
        """Hours without activity after which a session ends."""
        return self._limits.idle_s / 3600

    def list(self, user_id: str) -> builtins.list[SessionRecord]:
        """Return the valid sessions of a user, most recently used first."""
        now = time.time()
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT secret_hash, created_at, last_seen_at, address, agent FROM sessions WHERE user_id = ? "
                "ORDER BY last_seen_at DESC",
                (user_id,),
            ).fetchall()
        return [SessionRecord(*row) for row in rows if not self._expired(row["created_at"], row["last_seen_at"], now)]

    def end_for_user(
        self, user_id: str, *, keep: str | None, only: str | None = None, actor: Actor
    ) -> builtins.list[str]:
        """End sessions of a user.

        Args:
            user_id: The user.
            keep: The hash of a session to keep, None for none.
            only: The short id of the only session to end, None for all.
            actor: Who ends them.

        Returns:
            The hashes of the ended sessions.
        """
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT secret_hash FROM sessions WHERE user_id = ?", (user_id,)).fetchall()
            ended = [key for (key,) in rows if key != keep and only in (None, short_id(key))]
            connection.executemany("DELETE FROM sessions WHERE secret_hash = ?", [(key,) for key in ended])
            if ended:
                record(connection, actor, "sessions_ended", str(len(ended)))
        return ended

    def still_valid(self, sessions: Collection[str]) -> set[str]:
        """Return the valid ones of some sessions, given by the hashes of their secrets."""
        marks = ",".join("?" * len(sessions))
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT secret_hash, sessions.created_at, sessions.last_seen_at FROM sessions "
                f"JOIN users ON users.id = user_id WHERE enabled = 1 AND secret_hash IN ({marks})",
                tuple(sessions),
            ).fetchall()
        now = time.time()
        return {row[0] for row in rows if not self._expired(row[1], row[2], now)}

    def end(self, caller: Principal, *, actor: Actor) -> None:
        """Log out."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE secret_hash = ?", (caller.session,))
            record(connection, actor, "logout")

    def _recent(self, now: float) -> dict[str, float]:
        return {key: at for key, at in self._touched.items() if now - _TOUCH_EVERY_S < at <= now}

    def _expired(self, created_at: float, last_seen_at: float, now: float) -> bool:
        if created_at > now + _AHEAD_S:
            return True  # created while the clock was ahead: it would never expire
        return now - last_seen_at > self._limits.idle_s or now - created_at > self._limits.longest_s
