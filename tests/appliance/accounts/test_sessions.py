import secrets

import pytest

from appliance.accounts.credentials import csrf_token
from appliance.accounts.users import User
from appliance.store.database import Database

from .conftest import Accounts

PASSWORD = "correct horse battery"


def age(database: Database, column: str, seconds: float) -> None:
    with database.transaction() as connection:
        connection.execute(f"UPDATE sessions SET {column} = {column} - ?", (seconds,))


@pytest.mark.parametrize(
    "secret",
    ["", "x", secrets.token_urlsafe(32), "\udcff", "a" * 10_000],
    ids=["empty", "short", "random", "bytes", "long"],
)
@pytest.mark.usefixtures("anna")
def test_a_forged_secret_is_nobody(accounts: Accounts, secret: str):
    accounts.login.log_in("anna", PASSWORD, address="a", old=None)

    assert accounts.sessions.find(secret, "a") is None


@pytest.mark.usefixtures("anna")
def test_the_stored_hash_is_no_secret(accounts: Accounts):
    new = accounts.login.log_in("anna", PASSWORD, address="a", old=None)

    assert accounts.sessions.find(str(new.principal.session), "a") is None


@pytest.mark.usefixtures("anna")
def test_a_login_ends_without_use(accounts: Accounts, database: Database):
    new = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    age(database, "last_seen_at", 24 * 3600 - 30)
    assert accounts.sessions.find(new.secret, "a") is not None  # this use counts

    age(database, "last_seen_at", 24 * 3600 + 1)

    assert accounts.sessions.find(new.secret, "a") is None
    assert accounts.login.still_valid({new.principal}) == set()


@pytest.mark.usefixtures("anna")
def test_a_use_does_not_revive_a_session_that_ended_meanwhile(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
):
    new = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    age(database, "last_seen_at", 3600)
    transaction = database.transaction

    def expire_first() -> object:
        monkeypatch.undo()
        age(database, "last_seen_at", 24 * 3600)
        return transaction()

    monkeypatch.setattr(database, "transaction", expire_first)
    assert accounts.sessions.find(new.secret, "a") is not None  # it was valid when it was read

    assert accounts.sessions.find(new.secret, "a") is None


@pytest.mark.usefixtures("anna")
def test_a_login_ends_after_its_longest_time_however_it_is_used(accounts: Accounts, database: Database):
    new = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    assert accounts.login.still_valid({new.principal}) == {new.principal}

    age(database, "created_at", 14 * 86_400 + 1)

    assert accounts.sessions.find(new.secret, "a") is None


@pytest.mark.usefixtures("anna")
def test_a_logout_ends_this_login_alone(accounts: Accounts):
    here = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    there = accounts.login.log_in("anna", PASSWORD, address="b", old=None)

    accounts.sessions.end(here.principal, actor=here.principal.actor)

    assert accounts.sessions.find(here.secret, "a") is None
    assert accounts.sessions.find(there.secret, "b") is not None


@pytest.mark.usefixtures("anna")
def test_each_login_has_a_csrf_token_of_its_own_that_is_not_its_secret(accounts: Accounts):
    first = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    second = accounts.login.log_in("anna", PASSWORD, address="a", old=None)

    assert first.principal.csrf == csrf_token(first.secret)
    assert len({first.principal.csrf, second.principal.csrf, first.secret, second.secret, first.principal.session}) == 5


def test_expired_logins_are_swept_and_the_number_is_bounded(accounts: Accounts, anna: User, database: Database):
    first = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    with database.transaction() as connection:
        connection.executemany(
            "INSERT INTO sessions VALUES (?, ?, 1e12, 1e12, '', '')", [(f"hash {n}", anna.id) for n in range(60)]
        )

    age(database, "last_seen_at", 0)
    accounts.login.log_in("anna", PASSWORD, address="a", old=None)

    with database.read() as connection:
        assert connection.execute("SELECT COUNT(*) FROM sessions").fetchone()[0] == 50
    assert accounts.sessions.find(first.secret, "a") is None


@pytest.mark.usefixtures("anna")
def test_a_login_of_a_clock_that_was_ahead_ends_when_it_is_put_right(accounts: Accounts, database):
    new = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    with database.transaction() as connection:
        connection.execute("UPDATE sessions SET created_at = created_at + 1e8, last_seen_at = last_seen_at + 1e8")

    assert accounts.sessions.find(new.secret, "a") is None
    assert accounts.login.still_valid({new.principal}) == set()
