import pytest

from appliance.accounts.principal import Actor, Principal, Role
from appliance.accounts.users import User
from appliance.errors import AccountError, AccountNotFoundError
from appliance.store.database import Database

from .conftest import Accounts

BOSS = Actor("x", "boss")
PASSWORD = "correct horse battery"


@pytest.fixture
def caller(accounts: Accounts) -> Principal:
    ben = accounts.users.add("Ben", PASSWORD, Role.OPERATOR, actor=BOSS)
    return Principal(ben.id, ben.name, ben.role)


def test_a_token_is_its_owner_and_only_its_hash_is_kept(accounts: Accounts, caller: Principal, database: Database):
    token, secret = accounts.tokens.add(caller, "script", Role.OPERATOR)

    found = accounts.tokens.find(secret, "192.0.2.1")

    assert found == Principal(caller.id, "Ben", Role.OPERATOR, token=token.id, address="192.0.2.1")
    assert secret.startswith(token.prefix)
    assert len(token.prefix) < 15
    with database.read() as connection:
        stored = tuple(connection.execute("SELECT * FROM tokens").fetchone())
    assert secret not in map(str, stored)
    assert accounts.tokens.list(caller.id)[0].last_used_at is not None


def test_a_token_is_not_worth_more_than_its_owner(accounts: Accounts, caller: Principal):
    with pytest.raises(AccountError, match="higher than yours"):
        accounts.tokens.add(caller, "script", Role.ADMINISTRATOR)
    _, weak = accounts.tokens.add(caller, "reader", Role.VIEWER)
    _, strong = accounts.tokens.add(caller, "writer", Role.OPERATOR)

    accounts.users.change(caller.id, role=Role.VIEWER, actor=BOSS)
    assert accounts.tokens.find(strong, "").role is Role.VIEWER

    accounts.users.change(caller.id, role=Role.ADMINISTRATOR, actor=BOSS)
    assert accounts.tokens.find(weak, "").role is Role.VIEWER


def test_an_expired_a_removed_and_a_forged_token_are_nobody(accounts: Accounts, caller: Principal, database: Database):
    token, secret = accounts.tokens.add(caller, "script", Role.VIEWER, days=1)
    assert accounts.tokens.find(secret, "") is not None
    assert accounts.tokens.find(secret[:-1] + ("a" if secret[-1] != "a" else "b"), "") is None
    assert accounts.tokens.find("relume_", "") is None

    with database.transaction() as connection:
        connection.execute("UPDATE tokens SET expires_at = expires_at - 86401")
    assert accounts.tokens.find(secret, "") is None

    accounts.tokens.remove(caller.id, token.id, actor=BOSS)
    assert accounts.tokens.list(caller.id) == []


def test_nobody_removes_the_token_of_someone_else(accounts: Accounts, caller: Principal, anna: User):
    token, secret = accounts.tokens.add(caller, "script", Role.VIEWER)

    with pytest.raises(AccountNotFoundError, match="no token"):
        accounts.tokens.remove(anna.id, token.id, actor=BOSS)

    assert accounts.tokens.find(secret, "") is not None
