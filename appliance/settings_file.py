"""Writes `relume.toml` for the settings page: with a note on every setting, complete or not at all."""

import fcntl
import os
import tempfile
import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit

from appliance.errors import SettingsError
from appliance.faults import show_value, suggest
from appliance.settings import FILE_NAME, GOOD_NAME, PREFIX, Settings, build_settings, read_file
from runtime.segments.durable import sync_folder


def fixed_settings() -> frozenset[str]:
    """Name the settings that the environment fixes, so that the file cannot change them."""
    return frozenset(name for name in Settings.model_fields if os.environ.get(f"{PREFIX}{name.upper()}"))


def save_settings(
    data: Path, changes: Mapping[str, Any], *, check: Callable[[Settings], None] | None = None
) -> Settings:
    """Write changed settings to `relume.toml`, complete or not at all; they take effect at the next start.

    Args:
        data: The data directory.
        changes: New values by name; None takes a setting back to its default.
        check: Looks at all settings as they would be, and may refuse them.

    Raises:
        SettingsError: A value is unknown or outside its bounds, or the file cannot be written; nothing is changed then.
    """
    fixed = sorted(set(changes) & (fixed_settings() | {"data"}))
    if fixed:
        raise SettingsError(
            f"{', '.join(fixed)} cannot be changed here: the command line or the environment sets it",
            code="setting_locked",
            field=fixed[0],
        )
    unknown = sorted(set(changes) - set(Settings.model_fields))
    if unknown:
        near = suggest(unknown[0], list(Settings.model_fields))
        raise SettingsError(f"there is no setting named {show_value(unknown[0])}{near}", code="setting_unknown")
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(data):
            values = {name: value for name, value in {**_saved(data), **changes}.items() if value is not None}
            settings = build_settings({"data": data}, values)
            if check is not None:
                check(settings)
            written = settings.model_dump(mode="json", include=set(values))
            _replace(data, _as_toml(written), written)
    except OSError as error:
        raise SettingsError(f"the settings cannot be written to {data / FILE_NAME}: {error.strerror}") from error
    return settings


@contextmanager
def _alone(data: Path) -> Generator[None]:
    """Keep every other writer of the settings out, in this process and in others."""
    handle = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(data: Path, text: str, values: Mapping[str, Any]) -> None:
    """Put a new file in the old one's place once it is known to be read back as it was meant."""
    found = tomllib.loads(text)
    if found != values:
        wrong = sorted(name for name in {*found, *values} if found.get(name) != values.get(name))
        raise SettingsError(f"{', '.join(wrong)} cannot be kept in {FILE_NAME} as it is; choose another value")
    write_complete(data / FILE_NAME, text)


def write_complete(path: Path, text: str) -> None:
    """Write a file, for its owner alone, so that it is there complete or as it was before."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    partial = Path(name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def _saved(data: Path) -> dict[str, Any]:
    """Give the values of the file; those of the last start that worked where it was edited into something useless."""
    try:
        values = read_file(data)
        build_settings({"data": data}, values)
    except SettingsError:
        if not (data / GOOD_NAME).exists():
            raise
        return read_file(data, GOOD_NAME)
    return values


def _as_toml(values: Mapping[str, Any]) -> str:
    lines = [
        "# Settings of this Relume server. The settings page writes this file; changes take effect after a restart.",
        "# A line that begins with # is a note or a default.\n",
    ]
    for name, field in Settings.model_fields.items():
        if name == "data":
            continue
        lines.append(f"# {field.title}: {field.description}")
        default = Settings.model_fields[name].default
        shown = values.get(name, list(default) if isinstance(default, tuple) else default)
        lines.append(
            f"{'' if name in values else '# '}{name} = {'' if shown is None else tomlkit.item(shown).as_string()}\n"
        )
    return "\n".join(lines)
