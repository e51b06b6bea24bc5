"""The ways in: the first account by the one-time link, then name and password."""

from appliance.accounts.audit import NOBODY, Actor, record
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
from appliance.accounts.principal import Role
from appliance.accounts.rate_limit import LoginLimiter
from appliance.accounts.sessions import NewSession, Sessions
from appliance.accounts.users import insert_user
from appliance.errors import LoginError
from appliance.store.database import Database


class LoginService:
    """Lets people in."""

    def __init__(self, database: Database, sessions: Sessions, attempts: LoginLimiter) -> None:
        self._database, self._sessions, self._attempts = database, sessions, attempts

    def needs_setup(self) -> bool:
        """Return whether there is no account yet."""
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None

    def new_setup_secret(self) -> str | None:
        """Make the secret of the one-time set-up link, which ends an older one; None once there is an account."""
        secret = new_secret()
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM users LIMIT 1").fetchone():
                return None
            connection.execute("INSERT OR REPLACE INTO setup VALUES (1, ?)", (hash_secret(secret),))
        return secret

    def check_setup_secret(self, secret: str) -> None:
        """Refuse a set-up link that cannot be used any more; it has 256 bits, so nobody finds one by asking.

        Raises:
            LoginError: It is wrong, or was used.
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
        """Make the first account, an administrator, and log it in; the link is then worth nothing.

        Raises:
            LoginError: The link is wrong, or was used.
            AccountError: The name or the password is not accepted; the link can be used again.
        """
        self.check_setup_secret(secret)
        name = clean_name(name)
        check_password(password, name)
        hashed = hash_password(password)
        with self._database.transaction() as connection:
            if connection.execute("DELETE FROM setup WHERE secret_hash = ?", (hash_secret(secret),)).rowcount != 1:
                raise LoginError("this setup link was used already; log in with that account", code="setup_link")
            user = insert_user(connection, name, hashed, Role.ADMINISTRATOR, actor=Actor(None, "set-up link", address))
            return self._sessions.open(connection, user.id, address, old=old, agent=agent)

    def log_in(self, name: str, password: str, *, address: str, old: str | None, agent: str = "") -> NewSession:
        """Log in.

        An unknown name, a wrong password and an account that is switched off take the same time and get one answer.

        Args:
            name: The account's name.
            password: Its password.
            address: Where the request comes from.
            old: The session secret that the browser came with, if any; it ends.
            agent: What the browser calls itself.

        Raises:
            TooManyLoginsError: Too many log-ins failed.
            LoginError: The name or the password is wrong.
        """
        self._attempts.count_attempt(name, address)
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT id, name, password_hash FROM users WHERE name_key = ? AND enabled = 1", (name_key(name),)
            ).fetchone()
        right = verify_password(password, None if row is None else row["password_hash"])
        with self._database.transaction() as connection:
            # Looked at again: the account may have been changed while the password was compared.
            now = connection.execute(
                "SELECT name, password_hash FROM users WHERE id = ? AND enabled = 1",
                ("" if row is None else row["id"],),
            ).fetchone()
            if right and now is not None and now["password_hash"] == row["password_hash"]:
                self._attempts.reset(name, address)
                record(connection, Actor(row["id"], row["name"], address), "login")
                return self._sessions.open(connection, row["id"], address, old=old, agent=agent)
            who = Actor(None, NOBODY if row is None else row["name"], address)
            record(connection, who, "login_failed")
        raise LoginError("wrong user name or password; passwords are case-sensitive")
