"""Everything about accounts in one hand, made from the database and the settings."""

from collections.abc import Collection
from dataclasses import dataclass

from appliance.accounts.audit import Audit
from appliance.accounts.login import LoginService
from appliance.accounts.principal import Principal
from appliance.accounts.rate_limit import LoginLimiter, LoginLimits
from appliance.accounts.sessions import SessionLimits, Sessions
from appliance.accounts.tokens import Tokens
from appliance.accounts.users import Users
from appliance.settings import Settings
from appliance.store.database import Database


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the web server and the command line need of accounts."""

    users: Users
    sessions: Sessions
    tokens: Tokens
    attempts: LoginLimiter
    entrance: LoginService
    audit: Audit

    def still_valid(self, callers: Collection[Principal]) -> set[Principal]:
        """Return those who were let in once and still would be with that role: their log-in or token counts."""
        sessions = self.sessions.still_valid({caller.session for caller in callers if caller.session is not None})
        tokens = self.tokens.still_valid({caller.token for caller in callers if caller.token is not None})
        roles = self.users.roles()
        return {
            caller
            for caller in callers
            if (caller.session in sessions or caller.token in tokens)
            and caller.id in roles
            and roles[caller.id].includes(caller.role)
        }


def open_accounts(database: Database, settings: Settings) -> Accounts:
    """Return the accounts of a database under the limits of the settings."""
    sessions = Sessions(
        database, SessionLimits(idle_s=settings.session_idle_hours * 3600, longest_s=settings.session_days * 86_400)
    )
    limits = LoginLimits(settings.login_attempts, settings.login_attempts_address, settings.login_window_minutes * 60)
    attempts = LoginLimiter(database, limits)
    return Accounts(
        users=Users(database),
        sessions=sessions,
        tokens=Tokens(database),
        attempts=attempts,
        entrance=LoginService(database, sessions, attempts),
        audit=Audit(database),
    )
