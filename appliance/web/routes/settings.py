"""The settings; for administrators. Changes take effect at the next start."""

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.settings_check import available_backends, available_devices, check_settings
from appliance.settings_file import LAST_GOOD_NAME, fixed_settings, load_settings, save_settings
from appliance.web.security import Administrator, ServicesDep
from appliance.web.services import Services

router = APIRouter(tags=["settings"])

_HIDDEN: Final = frozenset({"data"})
_SECRETS: Final = frozenset({"smtp_password"})


class SettingsOut(BaseModel):
    """The saved settings, with the schema and choices of their form."""

    values: dict[str, Any]
    schema_: dict[str, Any] = Field(alias="schema", description="JSON schema with titles, descriptions and bounds")
    restart: list[str] = Field(description="Settings that take effect at the next start")
    pending: list[str] = Field(description="Settings that have changed since the start")
    fixed: dict[str, str] = Field(description="Settings fixed by the command line or the environment")
    running: dict[str, Any] = Field(description="The current values of the running server")
    choices: dict[str, list[str]] = Field(description="Valid values of a setting on this machine")
    problem: str = Field(description="Why the saved settings are not in use; empty if they are")


@router.get("/api/settings", summary="Show the settings")
def show_settings(services: ServicesDep, caller: Administrator) -> SettingsOut:
    """Return the saved settings with their schema."""
    del caller
    return _show(services)


@router.patch("/api/settings", summary="Change settings")
def change_settings(services: ServicesDep, caller: Administrator, body: dict[str, Any]) -> SettingsOut:
    """Save changed settings, which take effect at the next start; null resets one to its default."""
    given = sorted(set(body) & services.settings_given)
    if given:
        message = f"{', '.join(given)} cannot be changed here because the command line sets it"
        raise SettingsError(message, code="setting_locked", field=given[0])
    save_settings(
        services.settings.data, body, check=lambda wanted: check_settings(wanted, services.settings, set(body))
    )
    services.audit.add(caller.actor, "settings_changed", ", ".join(sorted(body)))
    return _show(services)


def _show(services: Services) -> SettingsOut:
    saved, running = _saved(services), services.settings.model_dump(mode="json", exclude=set(_HIDDEN))
    values = saved.model_dump(mode="json", exclude=set(_HIDDEN))
    at_start, backends = services.settings_at_start, available_backends()
    schema = Settings.model_json_schema()
    schema["properties"] = {name: part for name, part in schema["properties"].items() if name not in _HIDDEN}
    return SettingsOut(
        values=_without_secrets(values),
        schema=schema,
        restart=sorted(values),
        pending=sorted(name for name, value in values.items() if at_start[name] != value),
        fixed=dict.fromkeys(sorted(fixed_settings() - _HIDDEN), "environment")
        | dict.fromkeys(sorted(services.settings_given - _HIDDEN), "command line"),
        running=_without_secrets(running),
        choices={"backend": backends, "device": available_devices()},
        problem=services.settings_problem,
    )


def _without_secrets(values: dict[str, Any]) -> dict[str, Any]:
    """Blank write-only settings, which an open page or a leaked token must not reveal."""
    return {name: "" if name in _SECRETS else value for name, value in values.items()}


def _saved(services: Services) -> Settings:
    """Return the saved settings, or the last good ones if the file cannot be read."""
    try:
        return load_settings(services.settings.data)
    except SettingsError:
        return load_settings(services.settings.data, file_name=LAST_GOOD_NAME)
