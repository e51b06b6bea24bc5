import pytest

from appliance.accounts.principal import Actor, Role
from appliance.accounts.users import User
from appliance.errors import AccountError, AccountNotFoundError
from appliance.store.database import Database

from .conftest import Accounts

BOSS = Actor("x", "boss")
PASSWORD = "correct horse battery"


@pytest.mark.usefixtures("accounts")
def test_a_password_is_stored_as_an_argon2id_hash_alone(anna: User, database: Database):
    with database.read() as connection:
        (stored,) = connection.execute("SELECT password_hash FROM users").fetchone()

    assert stored.startswith("$argon2id$")
    assert anna.id not in stored
    assert PASSWORD.encode() not in database.path.read_bytes()


@pytest.mark.parametrize("name", ["anna", "ANNA", " Anna ", "Ａnna"])
@pytest.mark.usefixtures("anna")
def test_a_name_is_taken_however_it_is_written(accounts: Accounts, name: str):
    with pytest.raises(AccountError, match="already exists; choose another name"):
        accounts.users.add(name, PASSWORD, Role.VIEWER, actor=BOSS)

    assert [user.name for user in accounts.users.list()] == ["Anna"]


@pytest.mark.parametrize("name", ["", "   ", "a" * 65, "an\u202ena", "a\x00b"])
def test_a_name_that_does_not_show_is_refused(accounts: Accounts, name: str):
    with pytest.raises(AccountError, match=r"use a name of|invisible characters"):
        accounts.users.add(name, PASSWORD, Role.VIEWER, actor=BOSS)


@pytest.mark.parametrize(
    "password", ["short", "x" * 201, "aaaaaaaaaaaa", "1234567890", "Password123", "Benno Longname"]
)
def test_a_weak_password_is_refused(accounts: Accounts, password: str):
    with pytest.raises(AccountError, match="password"):
        accounts.users.add("Benno Longname", password, Role.VIEWER, actor=BOSS)

    assert accounts.users.list() == []


def test_the_last_administrator_is_neither_removed_nor_demoted_nor_disabled(accounts: Accounts, anna: User):
    for attempt in (
        lambda: accounts.users.remove(anna.id, actor=BOSS),
        lambda: accounts.users.change(anna.id, role=Role.OPERATOR, actor=BOSS),
        lambda: accounts.users.change(anna.id, enabled=False, actor=BOSS),
    ):
        with pytest.raises(AccountError, match="last administrator"):
            attempt()

    assert accounts.users.get(anna.id) == anna


def test_a_disabled_administrator_does_not_count_as_one(accounts: Accounts, anna: User):
    ben = accounts.users.add("Ben", PASSWORD, Role.ADMINISTRATOR, actor=BOSS)
    accounts.users.change(ben.id, enabled=False, actor=BOSS)

    with pytest.raises(AccountError, match="last administrator"):
        accounts.users.remove(anna.id, actor=BOSS)

    accounts.users.remove(ben.id, actor=BOSS)
    with pytest.raises(AccountNotFoundError, match="there is no such user"):
        accounts.users.get(ben.id)


def test_a_new_password_ends_the_other_logins_and_unlocks(accounts: Accounts, anna: User):
    kept = accounts.login.log_in("anna", PASSWORD, address="a", old=None)
    other = accounts.login.log_in("anna", PASSWORD, address="b", old=None)

    accounts.users.change_own_password(
        anna.id, PASSWORD, "another good password", actor=BOSS, keep_session=kept.principal.session
    )

    assert accounts.sessions.find(kept.secret, "a") is not None
    assert accounts.sessions.find(other.secret, "b") is None
    accounts.login.log_in("anna", "another good password", address="a", old=None)


def test_the_present_password_is_needed_for_a_new_one(accounts: Accounts, anna: User):
    with pytest.raises(AccountError, match="current password is wrong"):
        accounts.users.change_own_password(anna.id, "wrong", "another good one", actor=BOSS, keep_session=None)

    accounts.login.log_in("anna", PASSWORD, address="a", old=None)


@pytest.mark.usefixtures("anna")
def test_a_disabled_account_is_logged_out_and_its_token_stops(accounts: Accounts):
    ben = accounts.users.add("Ben", PASSWORD, Role.OPERATOR, actor=BOSS)
    session = accounts.login.log_in("ben", PASSWORD, address="a", old=None)
    _, secret = accounts.tokens.add(session.principal, "script", Role.OPERATOR)
    assert accounts.tokens.find(secret, "a") is not None

    accounts.users.change(ben.id, enabled=False, actor=BOSS)

    assert accounts.sessions.find(session.secret, "a") is None
    assert accounts.tokens.find(secret, "a") is None


@pytest.mark.usefixtures("anna")
def test_every_change_is_in_the_audit_log_which_cannot_be_rewritten(accounts: Accounts, database: Database):
    ben = accounts.users.add("Ben", PASSWORD, Role.VIEWER, actor=BOSS)
    accounts.users.change(ben.id, role=Role.OPERATOR, actor=BOSS)
    accounts.users.set_password(ben.id, "another good password", actor=BOSS)
    accounts.users.remove(ben.id, actor=BOSS)

    entries, total = accounts.audit.list(limit=4)

    assert [(entry.what, entry.who) for entry in entries] == [
        ("user_removed", "boss"),
        ("password_changed", "boss"),
        ("user_changed", "boss"),
        ("user_added", "boss"),
    ]
    assert total == 5
    assert not any("password" in entry.detail for entry in entries)
    for statement in ("DELETE FROM audit", "UPDATE audit SET who = 'nobody'"):
        with pytest.raises(Exception, match="the audit log is not"), database.transaction() as connection:
            connection.execute(statement)
    assert accounts.audit.list()[1] == 5


def test_a_refused_change_is_not_in_the_audit_log(accounts: Accounts, anna: User):
    before = accounts.audit.list()[1]

    with pytest.raises(AccountError):
        accounts.users.remove(anna.id, actor=BOSS)

    assert accounts.audit.list()[1] == before
