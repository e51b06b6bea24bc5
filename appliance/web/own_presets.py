"""Saved presets: named job options, for one user or for everyone."""

import json
import sqlite3
import time
from dataclasses import dataclass
from typing import Any, Final

from appliance.accounts.credentials import new_id
from appliance.accounts.principal import Principal, Role
from appliance.errors import OwnPresetError, OwnPresetNotFoundError
from appliance.store.database import Database

_MAX_PRESETS: Final = 100
_COLUMNS: Final = "id, name, owner, choices, created_at"


@dataclass(frozen=True, slots=True)
class OwnPreset:
    """Named options; `owner` None is for everyone, `is_default` refers to the caller."""

    id: str
    name: str
    owner: str | None
    choices: dict[str, Any]
    created_at: float
    is_default: bool = False


class OwnPresets:
    """The saved presets of a server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, caller: Principal) -> list[OwnPreset]:
        """Return the caller's own presets and those for everyone, ordered by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM own_presets WHERE owner = ? OR owner IS NULL ORDER BY name COLLATE NOCASE, id",
                (caller.id,),
            ).fetchall()
            default = self._default(connection, caller)
        return [_preset(row, default) for row in rows]

    def add(self, caller: Principal, name: str, choices: dict[str, Any], *, shared: bool) -> OwnPreset:
        """Save options; a preset with the same name and owner is replaced.

        Raises:
            OwnPresetError: The caller may not save for everyone, or has too many.
        """
        _check_role(caller, shared=shared)
        owner = None if shared else caller.id
        preset = OwnPreset(new_id(), name, owner, choices, time.time())
        with self._database.transaction() as connection:
            known = connection.execute(
                "SELECT id FROM own_presets WHERE owner IS ? AND name = ?", (owner, name)
            ).fetchone()
            if known is not None:
                connection.execute(
                    "UPDATE own_presets SET choices = ? WHERE id = ?", (json.dumps(choices), known["id"])
                )
                return self._get(connection, caller, known["id"])
            (there,) = connection.execute("SELECT COUNT(*) FROM own_presets WHERE owner IS ?", (owner,)).fetchone()
            if there >= _MAX_PRESETS:
                raise OwnPresetError(f"there are already {there} saved presets, which is the maximum; delete one first")
            connection.execute(
                f"INSERT INTO own_presets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
                (preset.id, name, owner, json.dumps(choices), preset.created_at),
            )
        return preset

    def remove(self, caller: Principal, preset_id: str) -> None:
        """Delete a preset.

        Raises:
            OwnPresetNotFoundError: The caller has no such preset.
            OwnPresetError: It is for everyone, and the caller is not an administrator.
        """
        with self._database.transaction() as connection:
            _check_role(caller, shared=self._get(connection, caller, preset_id).owner is None)
            connection.execute("DELETE FROM own_presets WHERE id = ?", (preset_id,))

    def choose_default(self, caller: Principal, preset_id: str | None) -> None:
        """Set the preset with which new jobs of the caller start; None for none.

        Raises:
            OwnPresetNotFoundError: The caller has no such preset.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM default_presets WHERE user = ?", (caller.id,))
            if preset_id is not None:
                self._get(connection, caller, preset_id)
                connection.execute("INSERT INTO default_presets (user, preset) VALUES (?, ?)", (caller.id, preset_id))

    def _get(self, connection: sqlite3.Connection, caller: Principal, preset_id: str) -> OwnPreset:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM own_presets WHERE id = ? AND (owner = ? OR owner IS NULL)", (preset_id, caller.id)
        ).fetchone()
        if row is None:
            raise OwnPresetNotFoundError("preset not found; it may have been deleted, so reload the page")
        return _preset(row, self._default(connection, caller))

    def _default(self, connection: sqlite3.Connection, caller: Principal) -> str | None:
        row = connection.execute("SELECT preset FROM default_presets WHERE user = ?", (caller.id,)).fetchone()
        return None if row is None else str(row["preset"])


def _check_role(caller: Principal, *, shared: bool) -> None:
    if shared and caller.role is not Role.ADMINISTRATOR:
        raise OwnPresetError("only administrators can change presets for everyone; save it for yourself instead")


def _preset(row: sqlite3.Row, default: str | None) -> OwnPreset:
    fields = dict(row)
    return OwnPreset(**{**fields, "choices": json.loads(fields["choices"])}, is_default=fields["id"] == default)
