"""The presets as the page offers them."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from appliance.web.access import Viewer
from runtime.options import AudioMode, Codec
from runtime.presets import PRESETS

router = APIRouter(tags=["jobs"])


class PresetOut(BaseModel):
    """One preset; what a job leaves open is as given here."""

    name: str
    title: str
    sentence: str
    picture: str = Field(description="Address of a picture of what it does")
    scales: list[str | int]
    codecs: list[Codec]
    copies_picture: bool
    scale: str | int
    codec: Codec | None
    audio: AudioMode
    strength: float


@router.get("/api/presets", summary="List the presets")
async def presets(caller: Viewer) -> list[PresetOut]:
    """Give every preset with a sentence and a picture."""
    del caller
    return [
        PresetOut(
            name=preset.name,
            title=preset.title,
            sentence=preset.sentence,
            picture=f"/page/pictures/{preset.name}.webp",
            scales=["auto", *sorted(preset.models)] if preset.models else [1],
            codecs=[] if preset.copies_picture else list(Codec),
            copies_picture=preset.copies_picture,
            scale=preset.scale,
            codec=preset.codec,
            audio=preset.audio,
            strength=preset.strength,
        )
        for preset in PRESETS.values()
    ]
