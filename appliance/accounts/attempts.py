"""Failed log-ins, counted by account and by address in the database, so that a restart forgets none.

An attempt is counted before the password is looked at and taken back when it was right: many at once get no more
tries than one after another. Names are counted whether an account has them or not.
"""

import sqlite3
import time
from dataclasses import dataclass

from appliance.accounts.audit import NOBODY, Actor, record
from appliance.accounts.passwords import name_key
from appliance.accounts.secrets import hash_secret
from appliance.errors import TooManyLoginsError
from appliance.store.database import Database


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """How many log-ins may fail within a time, on one account and from one address."""

    by_account: int = 8
    by_address: int = 40
    window_s: float = 900.0


class Attempts:
    """The failed log-ins of a box."""

    def __init__(self, database: Database, limits: LoginLimits) -> None:
        self._database, self._limits = database, limits

    def begin(self, name: str, address: str) -> None:
        """Count an attempt as failed until `forgive`.

        Raises:
            TooManyLoginsError: There were too many; this one must not be looked at.
        """
        now = time.time()
        with self._database.transaction() as connection:
            # A time in the future is a clock that was set back; it must not lock anyone out.
            connection.execute(
                "DELETE FROM failed_logins WHERE first_at <= ? OR first_at > ?", (now - self._limits.window_s, now + 60)
            )
            blocked_s = max(
                self._count(connection, key, limit, now)
                for key, limit in zip(_keys(name, address), self._bounds(), strict=True)
            )
            if not blocked_s:
                self._note_lock(connection, name, address)
        if blocked_s:
            minutes = max(1, round(blocked_s / 60))
            raise TooManyLoginsError(
                f"too many failed attempts; try again in {minutes} minute{'s' if minutes > 1 else ''}, "
                "or ask an administrator to reset your password",
                retry_after_s=max(1, int(blocked_s) + 1),
            )

    def forgive(self, name: str, address: str) -> None:
        """Take back what `begin` counted: the log-in was right."""
        by_account, by_address = _keys(name, address)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM failed_logins WHERE key = ?", (by_account,))
            connection.execute("UPDATE failed_logins SET failures = failures - 1 WHERE key = ?", (by_address,))

    def _bounds(self) -> tuple[int, int]:
        return self._limits.by_account, self._limits.by_address

    def _count(self, connection: sqlite3.Connection, key: str, limit: int, now: float) -> float:
        """Count one more, and give the seconds for which the key is still locked."""
        row = connection.execute("SELECT failures, first_at FROM failed_logins WHERE key = ?", (key,)).fetchone()
        if row is not None and row["failures"] >= limit:
            return max(1.0, float(row["first_at"]) + self._limits.window_s - now)
        # The time runs from the latest failure, so that slow guessing does not slip under it.
        connection.execute(
            "INSERT INTO failed_logins VALUES (?, 1, ?) "
            "ON CONFLICT (key) DO UPDATE SET failures = failures + 1, first_at = excluded.first_at",
            (key, now),
        )
        return 0.0

    def _note_lock(self, connection: sqlite3.Connection, name: str, address: str) -> None:
        row = connection.execute("SELECT failures FROM failed_logins WHERE key = ?", (_keys(name, "")[0],)).fetchone()
        if row is not None and row["failures"] == self._limits.by_account:
            record(connection, Actor(None, NOBODY, address), "login_locked", "too many failed log-ins on one account")


def unlock(connection: sqlite3.Connection, name: str) -> None:
    """Forget the failed log-ins on an account within a running transaction."""
    connection.execute("DELETE FROM failed_logins WHERE key = ?", (_keys(name, "")[0],))


def _keys(name: str, address: str) -> tuple[str, str]:
    # People type passwords into the name's field: only a hash is kept.
    return f"account {hash_secret(name_key(name))}", f"address {address}"
