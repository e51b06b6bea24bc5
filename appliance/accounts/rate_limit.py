"""Rate limits on failed logins, counted in the database so that they survive a restart.

Failures are counted per user and address, per address, and per user. The first two lock for a while. A user under
attack from many addresses is not locked, since anyone could then lock anyone out: the delay between attempts doubles
instead, except for an address from which that user is logged in. Rejected attempts are not counted.

An attempt counts as failed before the password is checked, and is cleared if it was right: parallel attempts get no
more guesses than sequential ones. Names are counted whether or not the user exists.
"""

import ipaddress
import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from appliance.accounts.audit import NOT_LOGGED_IN, record
from appliance.accounts.credentials import hash_secret, name_key
from appliance.accounts.principal import Actor
from appliance.errors import TooManyLoginsError
from appliance.store.database import Database

_LONGEST_DELAY_S: Final = 60.0
_MAX_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """The number of failed logins, per user and address and per address, that lock for `window_s`."""

    by_account: int = 8
    by_address: int = 40
    window_s: float = 900.0


class LoginLimiter:
    """Counts failed logins and rejects attempts over the limits."""

    def __init__(self, database: Database, limits: LoginLimits) -> None:
        self._database, self._limits = database, limits

    def count_attempt(self, name: str, address: str) -> None:
        """Count an attempt as failed; a successful login calls `reset`.

        Raises:
            TooManyLoginsError: There were too many; the password must not be checked.
        """
        now = time.time()
        pair, host, account = _keys(name, address)
        with self._database.transaction() as connection:
            # A time in the future means that the clock was set back; it must not lock anyone out.
            connection.execute(
                "DELETE FROM failed_logins WHERE first_at <= ? OR first_at > ?", (now - self._limits.window_s, now + 60)
            )
            blocked_s = max(
                self._locked_s(connection, pair, self._limits.by_account, now),
                self._locked_s(connection, host, self._limits.by_address, now),
                0.0 if _is_logged_in(connection, name, address) else self._delay_s(connection, account, now),
            )
            if not blocked_s:
                failures = [self._count(connection, key, now) for key in (pair, host, account)]
                if failures[0] == self._limits.by_account:
                    what = "too many failed logins on one account"
                    record(connection, Actor(None, NOT_LOGGED_IN, address), "login_locked", what)
                _remove_oldest(connection)
        if blocked_s:
            minutes = max(1, round(blocked_s / 60))
            again = f"in {minutes} minute{'s' if minutes > 1 else ''}" if blocked_s > 60 else "in a minute"
            raise TooManyLoginsError(
                f"too many failed attempts; try again {again}, or ask an administrator to reset your password",
                retry_after_s=max(1, int(blocked_s) + 1),
            )

    def reset(self, name: str, address: str) -> None:
        """Clear the failures after a successful login."""
        pair, host, account = _keys(name, address)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM failed_logins WHERE key IN (?, ?)", (pair, account))
            connection.execute("UPDATE failed_logins SET failures = failures - 1 WHERE key = ?", (host,))

    def _locked_s(self, connection: sqlite3.Connection, key: str, limit: int, now: float) -> float:
        """Return how long a key stays locked."""
        failures, latest_at = _read(connection, key)
        return max(1.0, latest_at + self._limits.window_s - now) if failures >= limit else 0.0

    def _delay_s(self, connection: sqlite3.Connection, key: str, now: float) -> float:
        """Return how long a user must wait after the latest failure from any address: 1, 2, 4, ... 60 s."""
        failures, latest_at = _read(connection, key)
        over = failures - self._limits.by_account
        return max(0.0, latest_at + min(_LONGEST_DELAY_S, 2.0 ** min(over, 10)) - now) if over >= 0 else 0.0

    def _count(self, connection: sqlite3.Connection, key: str, now: float) -> int:
        """Add one failure and return the number."""
        # The window starts at the latest failure, so that slow guessing does not evade it.
        row = connection.execute(
            "INSERT INTO failed_logins VALUES (?, 1, ?) "
            "ON CONFLICT (key) DO UPDATE SET failures = failures + 1, first_at = excluded.first_at RETURNING failures",
            (key, now),
        ).fetchone()
        return int(row[0])


def unlock(connection: sqlite3.Connection, name: str) -> None:
    """Clear the failed logins of a user within a transaction."""
    pair, _, account = _keys(name, "")
    connection.execute("DELETE FROM failed_logins WHERE key = ? OR substr(key, 1, ?) = ?", (account, len(pair), pair))


def _read(connection: sqlite3.Connection, key: str) -> tuple[int, float]:
    row = connection.execute("SELECT failures, first_at FROM failed_logins WHERE key = ?", (key,)).fetchone()
    return (0, 0.0) if row is None else (int(row["failures"]), float(row["first_at"]))


def _is_logged_in(connection: sqlite3.Connection, name: str, address: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM sessions JOIN users ON users.id = user_id WHERE name_key = ? AND address = ?",
        (name_key(name), address),
    ).fetchone()
    return row is not None


def _remove_oldest(connection: sqlite3.Connection) -> None:
    """Bound the size of the table, whatever names are tried."""
    connection.execute(
        "DELETE FROM failed_logins WHERE first_at < "
        "(SELECT first_at FROM failed_logins ORDER BY first_at DESC LIMIT 1 OFFSET ?)",
        (_MAX_ROWS,),
    )


def _keys(name: str, address: str) -> tuple[str, str, str]:
    """Return the keys of user and address, of the address, and of the user."""
    # People type passwords into the name field, so only a hash is stored.
    account, host = hash_secret(name_key(name)), _network(address)
    return f"pair {account} {host}", f"address {host}", f"account {account}"


def _network(address: str) -> str:
    """Return the address, or for IPv6 its /64 network, all of which one attacker may control."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
