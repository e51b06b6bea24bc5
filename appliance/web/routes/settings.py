"""The settings, for administrators; they count from the next start."""

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from appliance.settings import Settings, load_settings
from appliance.settings_file import fixed_settings, save_settings
from appliance.web.access import Administrator, ServicesHere
from appliance.web.services import Services

router = APIRouter(tags=["settings"])

_NOT_HERE: Final = frozenset({"data"})


class SettingsOut(BaseModel):
    """The saved settings, and what a form needs to draw them."""

    values: dict[str, Any]
    schema_: dict[str, Any] = Field(alias="schema", description="JSON schema with titles, descriptions and bounds")
    restart: list[str] = Field(description="Settings that count from the next start")
    pending: list[str] = Field(description="Settings that were changed since the start")
    fixed: list[str] = Field(description="Settings that the environment fixes")


@router.get("/api/settings", summary="Show the settings")
def show_settings(services: ServicesHere, caller: Administrator) -> SettingsOut:
    """Give the saved settings with their schema."""
    del caller
    return _show(services)


@router.patch("/api/settings", summary="Change settings")
def change_settings(services: ServicesHere, caller: Administrator, body: dict[str, Any]) -> SettingsOut:
    """Save changed settings; null takes one back to its default. They count from the next start."""
    save_settings(services.settings.data, body)
    services.accounts.audit.add(caller.actor, "settings_changed", ", ".join(sorted(body)))
    return _show(services)


def _show(services: Services) -> SettingsOut:
    saved = load_settings(services.settings.data)
    values = saved.model_dump(mode="json", exclude=set(_NOT_HERE))
    at_start = services.settings_at_start
    schema = Settings.model_json_schema()
    schema["properties"] = {name: part for name, part in schema["properties"].items() if name not in _NOT_HERE}
    return SettingsOut(
        values=values,
        schema=schema,
        restart=sorted(values),
        pending=sorted(name for name, value in values.items() if at_start[name] != value),
        fixed=sorted(fixed_settings() - _NOT_HERE),
    )
