"""The presets of Relume, saved presets, and own models."""

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from appliance.web.routes.job_requests import OptionsIn
from appliance.web.security import Operator, ServicesDep, Viewer
from appliance.web.views import content_disposition
from runtime.errors import ManifestError
from runtime.manifest import Manifest, load_model
from runtime.options import AudioMode, Codec, LoudnessStandard
from runtime.presets import PRESETS

router = APIRouter(tags=["jobs"])


class PresetOut(BaseModel):
    """A preset: the defaults of the options that a job leaves out."""

    name: str
    title: str
    sentence: str
    picture: str = Field(description="URL of an example image")
    scales: list[str | int]
    codecs: list[Codec]
    copies_picture: bool
    scale: str | int
    codec: Codec | None
    audio: AudioMode
    loudness: LoudnessStandard
    strength: float
    grain: float


@router.get("/api/presets", summary="List the presets")
async def presets(caller: Viewer) -> list[PresetOut]:
    """Return all presets with a description and an example image."""
    del caller
    return [
        PresetOut(
            name=preset.name,
            title=preset.title,
            sentence=preset.sentence,
            picture=f"/page/pictures/{preset.name}.webp",
            scales=["auto", *sorted(preset.models)] if preset.models else [1],
            codecs=[] if preset.copies_video else list(Codec),
            copies_picture=preset.copies_video,
            scale=preset.scale,
            codec=preset.codec,
            audio=preset.audio,
            loudness=preset.loudness,
            strength=preset.strength,
            grain=preset.grain,
        )
        for preset in PRESETS.values()
    ]


OwnPresetId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{16}$")]


class PresetFileEntry(BaseModel):
    """Named job options."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=60, pattern=r"\S")
    choices: OptionsIn


class OwnPresetIn(PresetFileEntry):
    """Named job options, for the caller or for everyone."""

    shared: bool = Field(False, description="For everyone; requires the role administrator")


class OwnPresetChange(BaseModel):
    """Whether new jobs of the caller start with the preset."""

    model_config = ConfigDict(extra="forbid")

    is_default: bool


class OwnPresetOut(BaseModel):
    """A saved preset."""

    id: str
    name: str
    shared: bool
    is_default: bool = Field(description="New jobs of the caller start with it")
    choices: dict[str, Any] = Field(description="Options as in the request for a job")


@router.get("/api/own-presets", summary="List the saved presets")
def list_own_presets(services: ServicesDep, caller: Operator) -> list[OwnPresetOut]:
    """Return the caller's own presets and those for everyone."""
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
def save_own_preset(services: ServicesDep, caller: Operator, body: OwnPresetIn) -> OwnPresetOut:
    """Save job options under a name; an existing preset of that name is replaced."""
    body.choices.options(threads=services.settings.threads, zoo=services.settings.zoo)
    choices = body.choices.model_dump(mode="json", exclude_unset=True)
    saved = services.own_presets.add(caller, body.name.strip(), choices, shared=body.shared)
    services.audit.add(caller.actor, "preset_saved", saved.name)
    return OwnPresetOut(
        id=saved.id, name=saved.name, shared=saved.owner is None, is_default=saved.is_default, choices=saved.choices
    )


class PresetFile(BaseModel):
    """Saved presets as a file, for another server or another user."""

    model_config = ConfigDict(extra="forbid")

    relume_presets: Literal[1] = Field(1, description="Version of the format")
    presets: list[PresetFileEntry] = Field(min_length=1, max_length=100)


@router.get("/api/own-presets/export", summary="Export the saved presets")
def export_own_presets(services: ServicesDep, caller: Operator, response: Response) -> dict[str, Any]:
    """Return the caller's own presets and those for everyone as a file for the import."""
    found = services.own_presets.list(caller)
    response.headers["Content-Disposition"] = content_disposition("relume-presets.json")
    return {
        "relume_presets": 1,
        "presets": [{"name": preset.name, "choices": preset.choices} for preset in found],
    }


@router.post("/api/own-presets/import", status_code=201, summary="Import saved presets")
def import_own_presets(services: ServicesDep, caller: Operator, body: PresetFile) -> list[OwnPresetOut]:
    """Save the presets of an exported file for the caller; those of the same name are replaced.

    All of them are checked before the first one is saved.
    """
    for entry in body.presets:
        entry.choices.options(threads=services.settings.threads, zoo=services.settings.zoo)
    return [
        save_own_preset(services, caller, OwnPresetIn(name=entry.name, choices=entry.choices, shared=False))
        for entry in body.presets
    ]


@router.patch(
    "/api/own-presets/{preset_id}", status_code=204, summary="Set the default preset", response_class=Response
)
def choose_default(services: ServicesDep, caller: Operator, preset_id: OwnPresetId, body: OwnPresetChange) -> Response:
    """Set or unset the preset with which new jobs of the caller start."""
    services.own_presets.choose_default(caller, preset_id if body.is_default else None)
    return Response(status_code=204)


@router.delete("/api/own-presets/{preset_id}", status_code=204, summary="Delete a preset", response_class=Response)
def remove_own_preset(services: ServicesDep, caller: Operator, preset_id: OwnPresetId) -> Response:
    """Delete a saved preset; existing jobs are not changed."""
    services.own_presets.remove(caller, preset_id)
    services.audit.add(caller.actor, "preset_removed", preset_id)
    return Response(status_code=204)


logger = logging.getLogger(__name__)


class ModelOut(BaseModel):
    """A model in the folder of the setting Own models."""

    name: str = Field(description="The value of the job option `model`")
    title: str
    scale: int = Field(description="Upscaling factor")
    licence: str


@router.get("/api/models", summary="List the own models")
def models(services: ServicesDep, caller: Viewer) -> list[ModelOut]:
    """Return the video models in the folder of own models."""
    del caller
    zoo = services.settings.zoo
    found = [] if zoo is None else [_read(path.parent) for path in sorted(zoo.glob("*/manifest.json"))]
    return [
        ModelOut(name=folder, title=manifest.title, scale=manifest.video.scale, licence=manifest.licence)
        for folder, manifest in filter(None, found)
        if manifest.video is not None
    ]


def _read(folder: Path) -> tuple[str, Manifest] | None:
    """Read a model; log and skip one that cannot be read."""
    try:
        return folder.name, load_model(folder).manifest
    except ManifestError as error:
        logger.warning("skipping the model in %s: %s", folder, error)
        return None
