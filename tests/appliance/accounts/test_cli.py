import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from appliance.accounts.cli import app
from appliance.errors import AccountError

PASSWORD = "correct horse battery"


def run(data: Path, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, [*words, "--data", str(data)], input=typed)


def test_accounts_are_made_listed_changed_and_removed(tmp_path: Path):
    data = tmp_path / "data"
    assert "created user Anna" in run(data, "add", "Anna", "--role", "administrator", typed=PASSWORD + "\n").output
    run(data, "add", "Ben", "--role", "viewer", typed=PASSWORD + "\n")

    assert "Ben is now operator" in run(data, "role", "ben", "operator").output
    assert "Ben can no longer log in" in run(data, "disable", "ben").output
    assert "changed the password of Ben" in run(data, "password", "ben", typed="another good one\n").output
    listed = json.loads(run(data, "list", "--json").output)
    assert [(user["name"], user["role"], user["enabled"]) for user in listed] == [
        ("Anna", "administrator", True),
        ("Ben", "operator", False),
    ]
    assert "Ben can log in again" in run(data, "enable", "ben").output
    assert "deleted user Ben" in run(data, "remove", "ben").output
    assert "Ben" not in run(data, "list").output


def test_an_error_states_the_reason(tmp_path: Path):
    data = tmp_path / "data"
    run(data, "add", "Anna", "--role", "administrator", typed=PASSWORD + "\n")

    for words, typed, said in (
        (("remove", "Anna"), "", "last administrator"),
        (("add", "Ben", "--role", "viewer"), "short\n", "10 to 200"),
        (("role", "Nobody", "viewer"), "", "no user Nobody"),
    ):
        result = run(data, *words, typed=typed)
        assert isinstance(result.exception, AccountError)
        with pytest.raises(AccountError, match=said):
            raise result.exception
