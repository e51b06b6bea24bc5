"""The owner's own models for the picture, as the page offers them."""

import logging
from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel, Field

from appliance.web.access import ServicesHere, Viewer
from runtime.errors import ManifestError
from runtime.manifest import Manifest, load_model

logger = logging.getLogger(__name__)
router = APIRouter(tags=["jobs"])


class ModelOut(BaseModel):
    """One model of the folder that the setting "Own models" names."""

    name: str = Field(description="What a job takes as `model`")
    title: str
    scale: int = Field(description="How many times as large the picture becomes")
    licence: str


@router.get("/api/models", summary="List the box's own models")
def models(services: ServicesHere, caller: Viewer) -> list[ModelOut]:
    """Give every model for pictures of the box's own folder; none where there is no folder."""
    del caller
    zoo = services.settings.zoo
    found = [] if zoo is None else [_read(path.parent) for path in sorted(zoo.glob("*/manifest.json"))]
    return [
        ModelOut(name=folder, title=manifest.title, scale=manifest.video.scale, licence=manifest.licence)
        for folder, manifest in filter(None, found)
        if manifest.video is not None
    ]


def _read(folder: Path) -> tuple[str, Manifest] | None:
    """Read a model; one that cannot be read is told in the log and left out."""
    try:
        return folder.name, load_model(folder).manifest
    except ManifestError as error:
        logger.warning("the model in %s cannot be offered: %s", folder, error)
        return None
