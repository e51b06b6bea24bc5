"""Presets that people saved themselves."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.web.access import Operator, ServicesHere
from appliance.web.routes.jobs import WishesIn

router = APIRouter(tags=["jobs"])

OwnPresetId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]


class OwnPresetIn(BaseModel):
    """The choices of a job under a name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=60, pattern=r"\S")
    choices: WishesIn
    shared: bool = Field(False, description="For everybody; only an administrator may do that")


class OwnPresetChange(BaseModel):
    """Whether new jobs of the caller begin with the preset."""

    model_config = ConfigDict(extra="forbid")

    is_default: bool


class OwnPresetOut(BaseModel):
    """A saved preset."""

    id: str
    name: str
    shared: bool
    is_default: bool = Field(description="New jobs of the caller begin with it")
    choices: dict[str, Any] = Field(description="As a job takes them")


@router.get("/api/own-presets", summary="List the saved presets")
def list_own_presets(services: ServicesHere, caller: Operator) -> list[OwnPresetOut]:
    """Give the caller's own presets and those for everybody."""
    return [
        OwnPresetOut(
            id=preset.id,
            name=preset.name,
            shared=preset.owner is None,
            is_default=preset.is_default,
            choices=preset.choices,
        )
        for preset in services.own_presets.list(caller)
    ]


@router.post("/api/own-presets", status_code=201, summary="Save a preset")
def save_own_preset(services: ServicesHere, caller: Operator, body: OwnPresetIn) -> OwnPresetOut:
    """Save choices under a name; one of the same name is replaced."""
    body.choices.options(threads=services.settings.threads, zoo=services.settings.zoo)
    choices = body.choices.model_dump(mode="json", exclude_unset=True)
    saved = services.own_presets.add(caller, body.name.strip(), choices, shared=body.shared)
    services.accounts.audit.add(caller.actor, "preset_saved", saved.name)
    return OwnPresetOut(
        id=saved.id, name=saved.name, shared=saved.owner is None, is_default=saved.is_default, choices=saved.choices
    )


@router.patch("/api/own-presets/{preset_id}", status_code=204, summary="Choose the default", response_class=Response)
def choose_default(services: ServicesHere, caller: Operator, preset_id: OwnPresetId, body: OwnPresetChange) -> Response:
    """Let new jobs of the caller begin with a preset, or no longer."""
    services.own_presets.choose_default(caller, preset_id if body.is_default else None)
    return Response(status_code=204)


@router.delete("/api/own-presets/{preset_id}", status_code=204, summary="Delete a preset", response_class=Response)
def remove_own_preset(services: ServicesHere, caller: Operator, preset_id: OwnPresetId) -> Response:
    """Delete a saved preset; jobs that were made with it stay."""
    services.own_presets.remove(caller, preset_id)
    services.accounts.audit.add(caller.actor, "preset_removed", preset_id)
    return Response(status_code=204)
