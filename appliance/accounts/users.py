"""Users: created, changed and deleted; one enabled administrator always remains."""

import re
import sqlite3
import time
from dataclasses import dataclass, replace
from typing import Final

from appliance.accounts.audit import record
from appliance.accounts.credentials import check_password, clean_name, hash_password, name_key, new_id, verify_password
from appliance.accounts.principal import Actor, Role
from appliance.accounts.rate_limit import unlock
from appliance.errors import AccountError, AccountNotFoundError
from appliance.store.database import Database

# The full grammar of addresses is longer; this rejects line breaks and what no mail server accepts.
_EMAIL: Final = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}")
_COLUMNS = "id, name, role, enabled, created_at, last_seen_at, must_change, language, email, email_events"


@dataclass(frozen=True, slots=True)
class User:
    """One user; times are seconds since 1970, UTC."""

    id: str
    name: str
    role: Role
    enabled: bool
    created_at: float
    last_seen_at: float | None
    must_change: bool = False
    language: str = ""
    email: str = ""
    email_events: tuple[str, ...] = ()


class Users:
    """The users of this server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> list[User]:
        """Return all users, ordered by name."""
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM users ORDER BY name_key").fetchall()
        return [_user(row) for row in rows]

    def names(self) -> dict[str, str]:
        """Return the names of all users by id."""
        with self._database.read() as connection:
            return dict(tuple(row) for row in connection.execute("SELECT id, name FROM users"))

    def roles(self) -> dict[str, Role]:
        """Return the roles of all users by id."""
        with self._database.read() as connection:
            return {row[0]: Role(row[1]) for row in connection.execute("SELECT id, role FROM users")}

    def get(self, user_id: str) -> User:
        """Return one user.

        Raises:
            AccountNotFoundError: There is no such user.
        """
        with self._database.read() as connection:
            return _find(connection, "id", user_id)

    def find(self, name: str) -> User:
        """Return the user with a name, ignoring case.

        Raises:
            AccountNotFoundError: There is no such user.
        """
        with self._database.read() as connection:
            return _find(connection, "name_key", name_key(name), shown=name)

    def add(self, name: str, password: str, role: Role, *, actor: Actor, must_change: bool = False) -> User:
        """Create a user; with `must_change` they have to change the password at the first login.

        Raises:
            AccountError: The name exists, or the name or the password is not accepted.
        """
        name = clean_name(name)
        check_password(password, name)
        hashed = hash_password(password)
        with self._database.transaction() as connection:
            user = insert_user(connection, name, hashed, role, actor=actor)
            connection.execute("UPDATE users SET must_change = ? WHERE id = ?", (must_change, user.id))
            return replace(user, must_change=must_change)

    def set_profile(
        self,
        user_id: str,
        *,
        language: str | None = None,
        email: str | None = None,
        events: tuple[str, ...] | None = None,
    ) -> None:
        """Set the user's own preferences: language, e-mail address and the events to send e-mails about.

        Raises:
            AccountError: The address is not an e-mail address.
        """
        if email and not _EMAIL.fullmatch(email):
            raise AccountError("enter an e-mail address such as anna@studio.example", code="email", field="email")
        columns = {
            "language": language,
            "email": email,
            "email_events": None if events is None else ",".join(events),
        }
        with self._database.transaction() as connection:
            for name, value in columns.items():
                if value is not None:
                    connection.execute(f"UPDATE users SET {name} = ? WHERE id = ?", (value, user_id))

    def change(self, user_id: str, *, role: Role | None = None, enabled: bool | None = None, actor: Actor) -> User:
        """Change the role, or enable or disable a user; a disabled user is logged out everywhere.

        Raises:
            AccountNotFoundError: There is no such user.
            AccountError: No enabled administrator would remain.
        """
        with self._database.transaction() as connection:
            user = _find(connection, "id", user_id)
            new_role, on = role or user.role, user.enabled if enabled is None else enabled
            if new_role is not Role.ADMINISTRATOR or not on:
                _keep_one_administrator(connection, user)
            connection.execute("UPDATE users SET role = ?, enabled = ? WHERE id = ?", (new_role, on, user_id))
            if not on:
                connection.execute("DELETE FROM sessions WHERE user_id = ?", (user_id,))
            record(connection, actor, "user_changed", f"{user.name}: {new_role}, {'enabled' if on else 'disabled'}")
            return _find(connection, "id", user_id)

    def set_password(
        self,
        user_id: str,
        password: str,
        *,
        actor: Actor,
        keep_session: str | None = None,
        must_change: bool = False,
    ) -> None:
        """Set a password, end all sessions except one, and clear the failed logins.

        Raises:
            AccountNotFoundError: There is no such user.
            AccountError: The password is not accepted.
        """
        user = self.get(user_id)
        check_password(password, user.name)
        hashed = hash_password(password)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE users SET password_hash = ?, must_change = ? WHERE id = ?", (hashed, must_change, user_id)
            )
            connection.execute(
                "DELETE FROM sessions WHERE user_id = ? AND secret_hash IS NOT ?", (user_id, keep_session)
            )
            unlock(connection, user.name)
            record(connection, actor, "password_changed", user.name)

    def change_own_password(self, user_id: str, old: str, new: str, *, actor: Actor, keep_session: str | None) -> None:
        """Change the caller's own password.

        Raises:
            AccountError: The old password is wrong, or the new one is not accepted.
        """
        with self._database.read() as connection:
            row = connection.execute("SELECT password_hash FROM users WHERE id = ?", (user_id,)).fetchone()
        if not verify_password(old, None if row is None else row[0]):
            raise AccountError("the current password is wrong", code="wrong_password", field="password")
        if old == new:
            raise AccountError(
                "choose a password other than the current one", code="same_password", field="new_password"
            )
        try:
            self.set_password(user_id, new, actor=actor, keep_session=keep_session)
        except AccountError as error:
            # The form has two password fields; the error is about the new one.
            error.field = "new_password" if error.field == "password" else error.field
            raise

    def remove(self, user_id: str, *, actor: Actor) -> None:
        """Delete a user with sessions and tokens; the jobs are kept.

        Raises:
            AccountNotFoundError: There is no such user.
            AccountError: It is the last enabled administrator.
        """
        with self._database.transaction() as connection:
            user = _find(connection, "id", user_id)
            _keep_one_administrator(connection, user)
            connection.execute("DELETE FROM users WHERE id = ?", (user_id,))
            record(connection, actor, "user_removed", user.name)


def insert_user(connection: sqlite3.Connection, name: str, hashed: str, role: Role, *, actor: Actor) -> User:
    """Create a user within a transaction.

    Raises:
        AccountError: The name exists.
    """
    existing = connection.execute("SELECT 1 FROM users WHERE name_key = ?", (name_key(name),)).fetchone()
    if existing:
        raise AccountError(f"user {name} already exists; choose another name", code="name_taken", field="name")
    user = User(new_id(), name, role, enabled=True, created_at=time.time(), last_seen_at=None)
    connection.execute(
        "INSERT INTO users (id, name, name_key, password_hash, role, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (user.id, name, name_key(name), hashed, role, user.created_at),
    )
    record(connection, actor, "user_added", f"{name}: {role}")
    return user


def _find(connection: sqlite3.Connection, column: str, value: str, shown: str = "") -> User:
    row = connection.execute(f"SELECT {_COLUMNS} FROM users WHERE {column} = ?", (value,)).fetchone()
    if row is None:
        message = f"there is no user {shown}; see `relume users list`" if shown else "there is no such user"
        raise AccountNotFoundError(message, code="user_not_found")
    return _user(row)


def _user(row: sqlite3.Row) -> User:
    identifier, name, role, enabled, created_at, last_seen_at, must_change, language, email, events = row
    return User(
        identifier,
        name,
        Role(role),
        bool(enabled),
        created_at,
        last_seen_at,
        bool(must_change),
        language,
        email,
        tuple(event for event in events.split(",") if event),
    )


def _keep_one_administrator(connection: sqlite3.Connection, leaving: User) -> None:
    (others,) = connection.execute(
        "SELECT COUNT(*) FROM users WHERE role = ? AND enabled = 1 AND id <> ?", (Role.ADMINISTRATOR, leaving.id)
    ).fetchone()
    if leaving.role is Role.ADMINISTRATOR and leaving.enabled and not others:
        raise AccountError(
            f"{leaving.name} is the last administrator; make another user an administrator first",
            code="last_administrator",
            field="role",
        )
