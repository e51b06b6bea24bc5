import threading
import time

import pytest

from appliance.accounts import credentials, rate_limit
from appliance.accounts.principal import Actor, Role
from appliance.errors import AccountError, LoginError, TooManyLoginsError
from appliance.store.database import Database

from .conftest import Accounts

PASSWORD = "correct horse battery"
BOSS = Actor("x", "boss")


def fail(accounts: Accounts, name: str, address: str = "a") -> str:
    with pytest.raises((LoginError, TooManyLoginsError)) as caught:
        accounts.login.log_in(name, "a wrong password", address=address, old=None)
    return str(caught.value)


@pytest.mark.usefixtures("anna")
def test_a_login_returns_a_secret_of_which_the_database_has_only_the_hash(accounts: Accounts, database):
    new = accounts.login.log_in("ANNA", PASSWORD, address="a", old=None)

    assert new.principal.name == "Anna"
    assert accounts.sessions.find(new.secret, "a") == new.principal
    with database.read() as connection:
        (stored,) = connection.execute("SELECT secret_hash FROM sessions").fetchone()
    assert stored == new.principal.session
    assert new.secret not in stored


@pytest.mark.usefixtures("anna")
def test_a_login_ends_the_session_that_the_browser_came_with(accounts: Accounts):
    fixed = accounts.login.log_in("anna", PASSWORD, address="attacker", old=None)

    new = accounts.login.log_in("anna", PASSWORD, address="a", old=fixed.secret)

    assert new.secret != fixed.secret
    assert accounts.sessions.find(fixed.secret, "attacker") is None


@pytest.mark.usefixtures("anna")
def test_unknown_wrong_and_disabled_get_one_answer_and_cost_one_hash(accounts: Accounts, monkeypatch):
    ben = accounts.users.add("Ben", PASSWORD, Role.VIEWER, actor=BOSS)
    accounts.users.change(ben.id, enabled=False, actor=BOSS)
    hashed = []
    hasher = credentials._hasher()
    spy = type("Spy", (), {"verify": lambda *a: hashed.append(1) or hasher.verify(*a[1:])})()
    with monkeypatch.context() as patched:
        patched.setattr(credentials, "_hasher", lambda: spy)
        said = {fail(accounts, name) for name in ("Anna", "Ben", "Nobody")}

    assert len(said) == 1
    assert len(hashed) == 3
    parameters = [text.split("$")[:4] for text in (credentials.hash_password(PASSWORD), credentials.DUMMY_HASH)]
    assert parameters[0] == parameters[1]


@pytest.mark.usefixtures("anna")
def test_a_disabled_account_cannot_log_in_with_the_right_password(accounts: Accounts):
    ben = accounts.users.add("Ben", PASSWORD, Role.VIEWER, actor=BOSS)
    accounts.users.change(ben.id, enabled=False, actor=BOSS)

    with pytest.raises(LoginError):
        accounts.login.log_in("Ben", PASSWORD, address="a", old=None)


@pytest.mark.parametrize("name", ["Anna", "Nobody"])
@pytest.mark.usefixtures("anna")
def test_an_account_locks_for_one_address_alike_whether_it_exists_or_not(accounts: Accounts, name: str):
    for _ in range(3):
        assert "wrong" in fail(accounts, name)

    assert "too many failed attempts; try again in 15 minutes" in fail(accounts, name)
    with pytest.raises(TooManyLoginsError) as caught:
        accounts.login.log_in(name, PASSWORD, address="a", old=None)
    assert 880 <= caught.value.retry_after_s <= 901


def later(database: Database, seconds: float) -> None:
    with database.transaction() as connection:
        connection.execute("UPDATE failed_logins SET first_at = first_at - ?", (seconds,))


@pytest.mark.parametrize("name", ["Anna", "Nobody"])
@pytest.mark.usefixtures("anna")
def test_guesses_from_many_addresses_slow_an_account_down_and_never_lock_it(accounts: Accounts, database, name: str):
    for number in range(30):
        assert "wrong" in fail(accounts, name, f"192.0.2.{number}")
        later(database, 61)
        later(database, -60)  # the window has not passed: only the latest failure counts for the delay
        with database.transaction() as connection:
            connection.execute("UPDATE failed_logins SET first_at = first_at - 60 WHERE key LIKE 'account%'")

    assert "wrong" in fail(accounts, name, "192.0.2.100")
    assert "too many failed attempts; try again in a minute" in fail(accounts, name, "192.0.2.101")
    later(database, 61)
    if name == "Anna":
        accounts.login.log_in(name, PASSWORD, address="192.0.2.200", old=None)


@pytest.mark.usefixtures("anna")
def test_an_address_that_is_locked_locks_nobody_elsewhere(accounts: Accounts):
    for number in range(6):
        fail(accounts, f"name {number}", "192.0.2.66")

    for _ in range(20):
        assert "too many" in fail(accounts, "anna", "192.0.2.66")

    accounts.login.log_in("anna", PASSWORD, address="192.0.2.1", old=None)


@pytest.mark.usefixtures("anna")
def test_an_address_with_a_login_is_not_slowed_down(accounts: Accounts):
    accounts.login.log_in("anna", PASSWORD, address="192.0.2.1", old=None)
    for number in range(3):
        fail(accounts, "anna", f"198.51.100.{number}")

    assert "too many" in fail(accounts, "anna", "198.51.100.9")
    accounts.login.log_in("anna", PASSWORD, address="192.0.2.1", old=None)


@pytest.mark.usefixtures("anna")
def test_all_addresses_of_one_ipv6_network_count_as_one(accounts: Accounts):
    for number in range(6):
        fail(accounts, f"name {number}", f"2001:db8:1:2::{number + 1:x}")

    assert "too many" in fail(accounts, "anna", "2001:db8:1:2:ffff::1")
    assert "wrong" in fail(accounts, "anna", "2001:db8:1:3::1")


@pytest.mark.usefixtures("anna")
def test_a_new_password_ends_the_lock_for_every_address(accounts: Accounts, anna):
    for _ in range(3):
        fail(accounts, "anna", "192.0.2.1")
    assert "too many" in fail(accounts, "anna", "192.0.2.1")

    accounts.users.set_password(anna.id, "another horse battery", actor=BOSS)

    accounts.login.log_in("anna", "another horse battery", address="192.0.2.1", old=None)


@pytest.mark.usefixtures("anna")
def test_what_is_refused_writes_nothing_and_the_table_stays_small(accounts: Accounts, database, monkeypatch):
    monkeypatch.setattr(rate_limit, "_MAX_ROWS", 4)
    for number in range(10):
        fail(accounts, f"name {number}", f"192.0.2.{number}")
    with database.read() as connection:
        assert connection.execute("SELECT COUNT(*) FROM failed_logins").fetchone()[0] <= 7
    for _ in range(3):
        fail(accounts, "anna", "192.0.2.200")
    with database.read() as connection:
        before = connection.execute("SELECT * FROM failed_logins ORDER BY key").fetchall()

    fail(accounts, "anna", "192.0.2.200")

    with database.read() as connection:
        assert connection.execute("SELECT * FROM failed_logins ORDER BY key").fetchall() == before


@pytest.mark.usefixtures("anna")
def test_an_address_locks_over_all_names(accounts: Accounts):
    for number in range(6):
        assert "wrong" in fail(accounts, f"name {number}", "192.0.2.1")

    assert "too many" in fail(accounts, "name 7", "192.0.2.1")
    accounts.login.log_in("anna", PASSWORD, address="192.0.2.2", old=None)


@pytest.mark.usefixtures("anna")
def test_many_guesses_at_once_get_no_more_attempts(accounts: Accounts):
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(fail(accounts, "anna"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum("wrong" in text for text in said) == 3
    assert sum("too many" in text for text in said) == 9


@pytest.mark.usefixtures("anna")
def test_a_lock_outlives_a_restart_and_ends_with_its_time(accounts: Accounts, database: Database):
    for _ in range(3):
        fail(accounts, "anna")
    with Database(database.path) as again:
        (count,) = again.read().__enter__().execute("SELECT COUNT(*) FROM failed_logins").fetchone()
    assert count == 3
    assert "too many" in fail(accounts, "anna")

    with database.transaction() as connection:
        connection.execute("UPDATE failed_logins SET first_at = first_at - 901")

    accounts.login.log_in("anna", PASSWORD, address="a", old=None)


@pytest.mark.usefixtures("anna")
def test_a_clock_that_was_set_back_locks_nobody_out(accounts: Accounts, database: Database):
    for _ in range(3):
        fail(accounts, "anna")
    with database.transaction() as connection:
        connection.execute("UPDATE failed_logins SET first_at = ?", (time.time() + 1e6,))

    accounts.login.log_in("anna", PASSWORD, address="a", old=None)


@pytest.mark.usefixtures("anna")
def test_right_logins_do_not_add_up_to_a_lock(accounts: Accounts):
    for _ in range(8):
        accounts.login.log_in("anna", PASSWORD, address="a", old=None)


@pytest.mark.usefixtures("anna")
def test_the_audit_log_has_logins_without_passwords(accounts: Accounts):
    for _ in range(3):
        fail(accounts, "anna", "192.0.2.7")
    fail(accounts, "my secret password typed as a name", "192.0.2.8")

    entries, _ = accounts.audit.list()

    assert [entry.what for entry in entries].count("login_failed") == 4
    assert [entry.what for entry in entries].count("login_locked") == 1
    assert entries[1].address == "192.0.2.7"
    assert not any("secret" in entry.who + entry.detail for entry in entries)


def test_the_setup_link_makes_one_administrator_and_is_used_up(accounts: Accounts):
    assert accounts.login.needs_setup()
    secret = accounts.login.new_setup_secret()
    assert secret is not None

    new = accounts.login.set_up(secret, "Anna", PASSWORD, address="a", old=None)

    assert new.principal.role is Role.ADMINISTRATOR
    assert accounts.sessions.find(new.secret, "a") is not None
    assert not accounts.login.needs_setup()
    assert accounts.login.new_setup_secret() is None
    with pytest.raises(LoginError, match="setup link"):
        accounts.login.set_up(secret, "Eve", PASSWORD, address="a", old=None)
    assert len(accounts.users.list()) == 1


def test_a_later_setup_link_ends_an_older_one(accounts: Accounts):
    older, later = accounts.login.new_setup_secret(), accounts.login.new_setup_secret()

    with pytest.raises(LoginError, match="expired; use the latest link"):
        accounts.login.set_up(str(older), "Eve", PASSWORD, address="a", old=None)

    accounts.login.set_up(str(later), "Anna", PASSWORD, address="a", old=None)


def test_a_refused_password_leaves_the_setup_link_good(accounts: Accounts):
    secret = str(accounts.login.new_setup_secret())

    with pytest.raises(AccountError, match="10 to 200"):
        accounts.login.set_up(secret, "Anna", "short", address="a", old=None)

    accounts.login.set_up(secret, "Anna", PASSWORD, address="a", old=None)


def test_one_setup_link_used_twice_at_once_makes_one_account(accounts: Accounts):
    secret = str(accounts.login.new_setup_secret())
    ended: list[str] = []

    def use(name: str) -> None:
        try:
            accounts.login.set_up(secret, name, PASSWORD, address="a", old=None)
            ended.append("in")
        except LoginError:
            ended.append("refused")

    threads = [threading.Thread(target=use, args=(f"name {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ended) == ["in", "refused", "refused", "refused"]
    assert len(accounts.users.list()) == 1
