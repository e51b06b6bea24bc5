from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.accounts.audit import Audit
from appliance.accounts.login import LoginService
from appliance.accounts.principal import Actor, Role
from appliance.accounts.rate_limit import LoginLimiter, LoginLimits
from appliance.accounts.sessions import SessionLimits, Sessions
from appliance.accounts.tokens import Tokens
from appliance.accounts.users import User, Users
from appliance.store.data_dir import prepare_data_directory
from appliance.store.database import Database

ADMIN = Actor("someone", "someone", "192.0.2.9")
PASSWORD = "correct horse battery"


@dataclass
class Accounts:
    """All account services over one database."""

    users: Users
    sessions: Sessions
    tokens: Tokens
    login: LoginService
    audit: Audit


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    prepare_data_directory(tmp_path / "data")
    with Database(tmp_path / "data" / "relume.db") as database:
        yield database


@pytest.fixture
def accounts(database: Database) -> Accounts:
    users, sessions, tokens = Users(database), Sessions(database, SessionLimits()), Tokens(database)
    limiter = LoginLimiter(database, LoginLimits(by_account=3, by_address=6))
    login = LoginService(database, users, sessions, tokens, limiter)
    return Accounts(users, sessions, tokens, login, Audit(database))


@pytest.fixture
def anna(accounts: Accounts) -> User:
    return accounts.users.add("Anna", PASSWORD, Role.ADMINISTRATOR, actor=ADMIN)
