"""Writes `relume.toml` for the settings page: with a note on every setting, complete or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.errors import SettingsError
from appliance.settings import FILE_NAME, PREFIX, Settings, build_settings, read_file


def fixed_settings() -> frozenset[str]:
    """Name the settings that the environment fixes, so that the file cannot change them."""
    return frozenset(name for name in Settings.model_fields if os.environ.get(f"{PREFIX}{name.upper()}"))


def save_settings(data: Path, changes: Mapping[str, Any]) -> Settings:
    """Write changed settings to `relume.toml`, complete or not at all; they count from the next start.

    Args:
        data: The data directory.
        changes: New values by name; None takes a setting back to its default.

    Raises:
        SettingsError: A value is unknown or outside its bounds, or the file cannot be written; nothing is changed then.
    """
    fixed = sorted(set(changes) & (fixed_settings() | {"data"}))
    if fixed:
        raise SettingsError(f"{', '.join(fixed)} cannot be changed here: the command line or the environment sets it")
    unknown = sorted(set(changes) - set(Settings.model_fields))
    if unknown:
        raise SettingsError(f"no settings named {', '.join(unknown)}; the settings page lists those that there are")
    values = {name: value for name, value in {**read_file(data), **changes}.items() if value is not None}
    settings = build_settings({"data": data}, values)
    path = data / FILE_NAME
    partial = path.with_name(f".{path.name}.part")
    try:
        data.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            file.write(_as_toml(settings.model_dump(mode="json", include=set(values))))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise SettingsError(f"the settings cannot be written to {path}: {error.strerror}") from error
    return settings


def _as_toml(values: Mapping[str, Any]) -> str:
    lines = [
        "# Settings of this Relume box. Relume writes this file when settings are changed on the page; they count from",
        "# the next start. A line that begins with # is a note or a default.\n",
    ]
    for name, field in Settings.model_fields.items():
        if name == "data":
            continue
        lines.append(f"# {field.title}: {field.description}")
        default = Settings.model_fields[name].default
        shown = values.get(name, list(default) if isinstance(default, tuple) else default)
        lines.append(f"{'' if name in values else '# '}{name} = {'' if shown is None else json.dumps(shown)}\n")
    return "\n".join(lines)
