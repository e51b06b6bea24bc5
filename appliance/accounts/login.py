"""Logging in: the administrator account by its one-time setup link, then user name and password."""

from collections.abc import Collection

from appliance.accounts.audit import NOT_LOGGED_IN, record
from appliance.accounts.credentials import (
    check_password,
    clean_name,
    equal_secrets,
    hash_password,
    hash_secret,
    name_key,
    new_secret,
    verify_password,
)
from appliance.accounts.principal import Actor, Principal, Role
from appliance.accounts.rate_limit import LoginLimiter
from appliance.accounts.sessions import NewSession, Sessions
from appliance.accounts.tokens import Tokens
from appliance.accounts.users import Users, insert_user
from appliance.errors import LoginError
from appliance.store.database import Database


class LoginService:
    """Authenticates users, and checks later whether they are still authenticated."""

    def __init__(
        self, database: Database, users: Users, sessions: Sessions, tokens: Tokens, limiter: LoginLimiter
    ) -> None:
        self._database, self._users, self._sessions = database, users, sessions
        self._tokens, self._limiter = tokens, limiter

    def needs_setup(self) -> bool:
        """Return True while there are no users."""
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None

    def new_setup_secret(self) -> str | None:
        """Create the secret of the one-time setup link and invalidate the previous one; None once there is a user."""
        secret = new_secret()
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM users LIMIT 1").fetchone():
                return None
            connection.execute("INSERT OR REPLACE INTO setup VALUES (1, ?)", (hash_secret(secret),))
        return secret

    def check_setup_secret(self, secret: str) -> None:
        """Reject an invalid setup link; no rate limit, since its 256 bits cannot be guessed.

        Raises:
            LoginError: The link is wrong, or was used.
        """
        with self._database.read() as connection:
            row = connection.execute("SELECT secret_hash FROM setup").fetchone()
        if row is None or not equal_secrets(row["secret_hash"], hash_secret(secret)):
            raise LoginError(
                "this setup link has expired; use the latest link shown by `relume serve`, or log in",
                code="setup_link",
            )

    def set_up(
        self, secret: str, name: str, password: str, *, address: str, old: str | None, agent: str = ""
    ) -> NewSession:
        """Create the administrator account and log it in; this invalidates the setup link.

        Raises:
            LoginError: The link is wrong, or was used.
            AccountError: The name or the password is not accepted; the link stays valid.
        """
        self.check_setup_secret(secret)
        name = clean_name(name)
        check_password(password, name)
        hashed = hash_password(password)
        with self._database.transaction() as connection:
            if connection.execute("DELETE FROM setup WHERE secret_hash = ?", (hash_secret(secret),)).rowcount != 1:
                raise LoginError("this setup link was already used; log in with that account", code="setup_link")
            user = insert_user(connection, name, hashed, Role.ADMINISTRATOR, actor=Actor(None, "setup link", address))
            return self._sessions.open(connection, user.id, address, old=old, agent=agent)

    def log_in(self, name: str, password: str, *, address: str, old: str | None, agent: str = "") -> NewSession:
        """Log in with user name and password.

        An unknown name, a wrong password and a disabled user take the same time and get the same error.

        Args:
            name: The user name.
            password: The password.
            address: The client's IP address.
            old: The session secret that the browser sent, if any; that session ends.
            agent: The User-Agent header.

        Raises:
            TooManyLoginsError: Too many logins have failed.
            LoginError: The name or the password is wrong.
        """
        self._limiter.count_attempt(name, address)
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT id, name, password_hash FROM users WHERE name_key = ? AND enabled = 1", (name_key(name),)
            ).fetchone()
        right = verify_password(password, None if row is None else row["password_hash"])
        with self._database.transaction() as connection:
            # Read again: the user may have been changed while the password was hashed.
            now = connection.execute(
                "SELECT name, password_hash FROM users WHERE id = ? AND enabled = 1",
                ("" if row is None else row["id"],),
            ).fetchone()
            if right and now is not None and now["password_hash"] == row["password_hash"]:
                self._limiter.reset(name, address)
                record(connection, Actor(row["id"], row["name"], address), "login")
                return self._sessions.open(connection, row["id"], address, old=old, agent=agent)
            who = Actor(None, NOT_LOGGED_IN if row is None else row["name"], address)
            record(connection, who, "login_failed")
        raise LoginError("wrong user name or password; passwords are case-sensitive")

    def still_valid(self, principals: Collection[Principal]) -> set[Principal]:
        """Return those whose session or token is valid and whose user still has at least their role."""
        sessions = self._sessions.still_valid({one.session for one in principals if one.session is not None})
        tokens = self._tokens.still_valid({one.token for one in principals if one.token is not None})
        roles = self._users.roles()
        return {
            one
            for one in principals
            if (one.session in sessions or one.token in tokens) and one.id in roles and roles[one.id].includes(one.role)
        }
