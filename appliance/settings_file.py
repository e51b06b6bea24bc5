"""`relume.toml` in the data directory: read, checked, and written by the settings page."""

import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import tomlkit
from pydantic import ValidationError

from appliance.errors import SettingsError
from appliance.settings import PREFIX, Settings, find_data_directory
from appliance.validation_messages import describe_validation_error, quote_value, suggest
from runtime.atomic_files import write_durably
from runtime.file_lock import FileLock

FILE_NAME: Final = "relume.toml"
LAST_GOOD_NAME: Final = "relume.last-good.toml"
"""The settings of the latest successful start."""


def load_settings(data: Path | None = None, *, file_name: str = FILE_NAME, **given: object) -> Settings:
    """Load the settings of a data directory.

    Args:
        data: The data directory; None means `RELUME_DATA` or the default.
        file_name: The name of the file in it.
        given: Settings from the command line, which have priority; None means not given.

    Raises:
        SettingsError: The file is not TOML, or a setting is unknown or invalid.
    """
    chosen = find_data_directory(data)
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return build_settings({**options, "data": chosen}, read_file(chosen, file_name))
    except SettingsError as error:
        # The page shows the error next to the field; for a file or a variable, the name is needed.
        if error.field:
            raise SettingsError(f"setting {error.field}: {error}", code=error.code, field=error.field) from error
        raise


def read_file(data: Path, file_name: str = FILE_NAME) -> dict[str, Any]:
    """Return the values in a settings file; none if there is no file.

    Raises:
        SettingsError: The file cannot be read or is not TOML.
    """
    path = data / file_name
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}; correct or remove it") from error
    if "data" in values:
        raise SettingsError(f"{path} cannot set data, the directory that contains it; use --data or {PREFIX}DATA")
    return values


def build_settings(given: Mapping[str, Any], file: Mapping[str, Any]) -> Settings:
    """Create the settings from given values, which have priority, and the values of a file.

    Raises:
        SettingsError: A setting is unknown or invalid.
    """
    try:
        return Settings(_file=dict(file), **given)  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _settings_error(first) from error


def _settings_error(fault: Mapping[str, Any]) -> SettingsError:
    """Return the error for a validation error of pydantic."""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        return SettingsError(
            f"there is no setting named {quote_value(name)}{suggest(name, list(Settings.model_fields))}",
            code="setting_unknown",
        )
    if name not in Settings.model_fields:
        found = next((known for known in ("tls_certificate",) if known in str(fault["msg"])), "")
        return SettingsError(describe_validation_error(fault, "the settings"), code="setting_refused", field=found)
    title = Settings.model_fields[name].title or name
    return SettingsError(
        describe_validation_error(fault, title, bounds=_bounds_of(name)), code="setting_refused", field=name
    )


def _bounds_of(name: str) -> tuple[Any, Any]:
    """Return the minimum and maximum of a setting; None for no bound."""
    marks = Settings.model_fields[name].metadata
    least = next((mark.ge for mark in marks if hasattr(mark, "ge")), None)
    most = next((mark.le for mark in marks if hasattr(mark, "le")), None)
    return least, most


def fixed_settings() -> frozenset[str]:
    """Return the names of the settings that environment variables override."""
    return frozenset(name for name in Settings.model_fields if os.environ.get(f"{PREFIX}{name.upper()}"))


def save_settings(
    data: Path, changes: Mapping[str, Any], *, check: Callable[[Settings], None] | None = None
) -> Settings:
    """Write changed settings to `relume.toml` atomically; they take effect at the next start.

    Args:
        data: The data directory.
        changes: New values by name; None resets a setting to its default.
        check: Checks the resulting settings; raises `SettingsError` to reject them.

    Raises:
        SettingsError: A setting is unknown or invalid, or the file cannot be written; nothing is changed.
    """
    fixed = sorted(set(changes) & (fixed_settings() | {"data"}))
    if fixed:
        raise SettingsError(
            f"{', '.join(fixed)} cannot be changed here because the command line or the environment sets it",
            code="setting_locked",
            field=fixed[0],
        )
    unknown = sorted(set(changes) - set(Settings.model_fields))
    if unknown:
        near = suggest(unknown[0], list(Settings.model_fields))
        raise SettingsError(f"there is no setting named {quote_value(unknown[0])}{near}", code="setting_unknown")
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock.wait_existing(data):
            values = {name: value for name, value in {**_saved(data), **changes}.items() if value is not None}
            settings = build_settings({"data": data}, values)
            if check is not None:
                check(settings)
            written = settings.model_dump(mode="json", include=set(values))
            _replace(data, _as_toml(written), written)
    except OSError as error:
        raise SettingsError(f"cannot write the settings to {data / FILE_NAME}: {error.strerror}") from error
    return settings


def _replace(data: Path, text: str, values: Mapping[str, Any]) -> None:
    """Replace the file after checking that it parses back to the same values."""
    found = tomllib.loads(text)
    if found != values:
        wrong = sorted(name for name in {*found, *values} if found.get(name) != values.get(name))
        raise SettingsError(f"{', '.join(wrong)} cannot be stored in {FILE_NAME}; choose another value")
    write_durably(data / FILE_NAME, text.encode(), mode=0o600)


def _saved(data: Path) -> dict[str, Any]:
    """Return the values of the file, or of the last good one if it was edited and is invalid."""
    try:
        values = read_file(data)
        build_settings({"data": data}, values)
    except SettingsError:
        if not (data / LAST_GOOD_NAME).exists():
            raise
        return read_file(data, LAST_GOOD_NAME)
    return values


def _as_toml(values: Mapping[str, Any]) -> str:
    lines = [
        "# Settings of this Relume server. The settings page writes this file; changes take effect after a restart.",
        "# Lines that start with # are comments or defaults.\n",
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


def save_last_good(data: Path, file_name: str) -> None:
    """Keep a copy of the settings that the server started with, to fall back to if newer ones prevent a start."""
    if file_name == LAST_GOOD_NAME:
        return
    try:
        content = (data / file_name).read_bytes()
    except OSError:
        content = b""
    good = data / LAST_GOOD_NAME
    with suppress(OSError):
        if not good.exists() or good.read_bytes() != content:
            write_durably(good, content, mode=0o600)
