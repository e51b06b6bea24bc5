"""`relume users`: user management on the command line, while the server runs or when nobody can log in."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.accounts.principal import Role
from appliance.console import PlainCommand

if TYPE_CHECKING:
    from appliance.accounts.users import Users

app = typer.Typer(help="Manage users.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="User name.")]


@app.command("list", cls=PlainCommand)
def list_users(*, data: Data = None, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List users."""
    from dataclasses import asdict

    from appliance.console import format_json, format_table

    with _users(data) as users:
        found = users.list()
    if json:
        print(format_json([asdict(user) for user in found]))
        return
    rows = [(user.name, user.role, "" if user.enabled else "disabled", _day(user.last_seen_at)) for user in found]
    print(format_table([("name", "role", "state", "last login"), *rows]))


@app.command(cls=PlainCommand)
def add(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(metavar="viewer|operator|administrator", help="What the user may do.")],
    data: Data = None,
) -> None:
    """Create a user.

    The password is prompted for, or read from standard input.
    """
    from appliance.accounts.audit import COMMAND_LINE

    with _users(data) as users:
        user = users.add(name, _ask_password(), role, actor=COMMAND_LINE)
    print(f"created user {user.name} ({user.role})")


@app.command(cls=PlainCommand)
def password(name: Name, *, data: Data = None) -> None:
    """Set a new password.

    This logs the user out everywhere and unlocks the account. The password is prompted for, or read from standard
    input.
    """
    from appliance.accounts.audit import COMMAND_LINE

    with _users(data) as users:
        user = users.find(name)
        users.set_password(user.id, _ask_password(), actor=COMMAND_LINE)
    print(f"changed the password of {user.name}")


@app.command(cls=PlainCommand)
def role(
    name: Name,
    new_role: Annotated[Role, typer.Argument(metavar="ROLE", help="viewer, operator or administrator.")],
    *,
    data: Data = None,
) -> None:
    """Change the role of a user."""
    from appliance.accounts.audit import COMMAND_LINE

    with _users(data) as users:
        user = users.change(users.find(name).id, role=new_role, actor=COMMAND_LINE)
    print(f"{user.name} is now {user.role}")


@app.command(cls=PlainCommand)
def disable(name: Name, *, data: Data = None) -> None:
    """Disable a user's login."""
    _switch(name, data, on=False)


@app.command(cls=PlainCommand)
def enable(name: Name, *, data: Data = None) -> None:
    """Enable a user's login again."""
    _switch(name, data, on=True)


@app.command(cls=PlainCommand)
def remove(name: Name, *, data: Data = None) -> None:
    """Delete a user; their jobs are kept.

    Their tokens and uploads without a job are deleted as well.
    """
    from appliance.accounts.audit import COMMAND_LINE

    with _users(data) as users:
        user = users.find(name)
        users.remove(user.id, actor=COMMAND_LINE)
    print(f"deleted user {user.name}")


@contextmanager
def _users(data: Path | None) -> "Iterator[Users]":
    from appliance.accounts.users import Users
    from appliance.settings_file import load_settings
    from appliance.store.data_dir import prepare_data_directory
    from appliance.store.database import Database

    settings = load_settings(data)
    prepare_data_directory(settings.data)
    with Database(settings.database) as database:
        yield Users(database)


def _switch(name: str, data: Path | None, *, on: bool) -> None:
    from appliance.accounts.audit import COMMAND_LINE

    with _users(data) as users:
        user = users.change(users.find(name).id, enabled=on, actor=COMMAND_LINE)
    print(f"{user.name} can {'log in again' if on else 'no longer log in'}")


def _ask_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("New password: ")
    if getpass.getpass("Confirm password: ") != first:
        from appliance.errors import AccountError

        raise AccountError("the passwords do not match; try again")
    return first


def _day(at: float | None) -> str:
    import time

    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
