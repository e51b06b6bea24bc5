from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.accounts.audit import Actor
from appliance.accounts.book import Accounts, open_accounts
from appliance.accounts.principal import Role
from appliance.accounts.users import User
from appliance.settings import load_settings
from appliance.store.data_dir import prepare_data_directory
from appliance.store.database import Database

ADMIN = Actor("someone", "someone", "192.0.2.9")
PASSWORD = "correct horse battery"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    prepare_data_directory(tmp_path / "data")
    with Database(tmp_path / "data" / "relume.db") as database:
        yield database


@pytest.fixture
def accounts(database: Database, tmp_path: Path) -> Accounts:
    return open_accounts(database, load_settings(tmp_path / "data", login_attempts=3, login_attempts_address=6))


@pytest.fixture
def anna(accounts: Accounts) -> User:
    return accounts.users.add("Anna", PASSWORD, Role.ADMINISTRATOR, actor=ADMIN)
