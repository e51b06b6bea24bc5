"""API tokens for programs, with at most the role of the user who created them; only the hash is stored."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from appliance.accounts.audit import record
from appliance.accounts.credentials import clean_name, hash_secret, new_id, new_secret
from appliance.accounts.principal import Actor, Principal, Role
from appliance.errors import AccountError, AccountNotFoundError
from appliance.store.database import Database

PREFIX: Final = "relume_"
_SHOWN: Final = len(PREFIX) + 6
_MAX_PER_USER: Final = 100
_TOUCH_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as shown to its user; `prefix` is the beginning of its secret."""

    id: str
    name: str
    role: Role
    prefix: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None


class Tokens:
    """The API tokens of all users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, user_id: str) -> list[ApiToken]:
        """Return the tokens of a user, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, name, role, prefix, created_at, expires_at, last_used_at FROM tokens "
                "WHERE user_id = ? ORDER BY created_at DESC",
                (user_id,),
            ).fetchall()
        return [ApiToken(row[0], row[1], Role(row[2]), *row[3:]) for row in rows]

    def add(self, caller: Principal, name: str, role: Role, *, days: float | None = None) -> tuple[ApiToken, str]:
        """Create a token; return it and its secret, which cannot be read again.

        Raises:
            AccountError: The name is not accepted, the role is higher than the user's, or there are too many.
        """
        name = clean_name(name)
        if not caller.role.includes(role):
            raise AccountError(
                f"a token cannot have the role {role}, which is higher than yours; choose {caller.role} or lower"
            )
        secret, now = PREFIX + new_secret(), time.time()
        token = ApiToken(
            new_id(), name, role, secret[:_SHOWN], now, None if days is None else now + days * 86_400, None
        )
        with self._database.transaction() as connection:
            (there,) = connection.execute("SELECT COUNT(*) FROM tokens WHERE user_id = ?", (caller.id,)).fetchone()
            if there >= _MAX_PER_USER:
                raise AccountError(f"you have {there} tokens, which is the maximum; delete an unused one first")
            connection.execute(
                "INSERT INTO tokens (id, user_id, name, role, prefix, secret_hash, created_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (token.id, caller.id, name, role, token.prefix, hash_secret(secret), now, token.expires_at),
            )
            record(connection, caller.actor, "token_added", f"{name} ({token.prefix}...): {role}")
        return token, secret

    def remove(self, user_id: str, token_id: str, *, actor: Actor) -> None:
        """Delete a token of a user.

        Raises:
            AccountNotFoundError: This user has no such token.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "DELETE FROM tokens WHERE id = ? AND user_id = ? RETURNING name", (token_id, user_id)
            ).fetchone()
            if row is None:
                raise AccountNotFoundError(f"you have no token {token_id!r}; it may have been deleted")
            record(connection, actor, "token_removed", row["name"])

    def still_valid(self, tokens: Collection[str]) -> set[str]:
        """Return the valid ones of some tokens, given by their ids."""
        marks = ",".join("?" * len(tokens))
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT tokens.id FROM tokens JOIN users ON users.id = user_id WHERE enabled = 1 "
                f"AND (expires_at IS NULL OR expires_at > ?) AND tokens.id IN ({marks})",
                (time.time(), *tokens),
            ).fetchall()
        return {row[0] for row in rows}

    def find(self, secret: str, address: str) -> Principal | None:
        """Return the user of a token; None if it is unknown or expired, or the user is disabled."""
        if not secret.startswith(PREFIX):
            return None
        now = time.time()
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT tokens.id, user_id, users.name, tokens.role AS most, users.role, expires_at, last_used_at "
                "FROM tokens JOIN users ON users.id = user_id WHERE secret_hash = ? AND enabled = 1",
                (hash_secret(secret),),
            ).fetchone()
        if row is None or (row["expires_at"] is not None and row["expires_at"] <= now):
            return None
        if abs(now - (row["last_used_at"] or 0.0)) > _TOUCH_EVERY_S:
            with self._database.transaction() as connection:
                connection.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (now, row["id"]))
        own, most = Role(row["role"]), Role(row["most"])
        role = most if own.includes(most) else own
        return Principal(row["user_id"], row["name"], role, token=row["id"], address=address)
