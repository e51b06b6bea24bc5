"""Sharp footage for training: real clips brought down until they are clean, and photographs that move."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

logger = logging.getLogger(__name__)

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Footage:
    """What sequences are cut from.

    clips: each (frames, height, width, 3) uint8 RGB, consecutive frames.
    photos: each (height, width, 3) uint8 RGB.
    """

    clips: tuple[Frames, ...]
    photos: tuple[NDArray[np.uint8], ...]


def load_footage(folder: Path, *, held_out: Sequence[str], clip_side: int, photo_side: int, frames: int) -> Footage:
    """Read a folder of `video/` and `images/`, leaving out what is held out for validation.

    Args:
        folder: Holds `video/*` and `images/**/*`.
        held_out: File names (without folders) that training must never see.
        clip_side: Short side that clips are brought down to; compressed detail is averaged away.
        photo_side: Short side that photographs are brought down to.
        frames: Most frames taken of a clip, in spans spread over its length.

    Returns:
        Clips with a short side under 200 pixels are left out.
    """
    clips: list[Frames] = []
    for path in sorted((folder / "video").iterdir()):
        if path.name not in held_out and path.suffix in {".mp4", ".mkv", ".mov", ".webm"}:
            clips += load_clip(path, side=clip_side, frames=frames)
    photos = [
        _shrink(Image.open(path), photo_side)
        for path in sorted((folder / "images").rglob("*"))
        if path.suffix in {".jpg", ".png"} and path.name not in held_out
    ]
    logger.info("%d spans of clips, %d frames, %d photographs", len(clips), sum(map(len, clips)), len(photos))
    return Footage(tuple(clips), tuple(photos))


def load_clip(path: Path, *, side: int, frames: int, spans: int = 3, least_shrink: float = 1.5) -> list[Frames]:
    """Decode spans of consecutive frames of a clip, brought down so that coding artefacts are gone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        total = stream.frames or 10**9
        length = max(1, min(frames, total) // spans)
        starts = [round(index * max(0, total - length) / max(1, spans - 1)) for index in range(spans)]
        if total >= 10**9 or total <= frames:
            starts, length = [0], min(frames, total)
        wanted = {first + offset for first in starts for offset in range(length)}
        taken: dict[int, Frames] = {}
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                taken[index] = _shrink(frame.to_image(), side, least_shrink)
            if index >= max(wanted):
                break
    found = [[taken[first + k] for k in range(length) if first + k in taken] for first in starts]
    return [np.stack(span) for span in found if len(span) >= 4 and min(span[0].shape[:2]) >= 200]


def _shrink(image: Image.Image, side: int, least: float = 1.0) -> NDArray[np.uint8]:
    image = image.convert("RGB")
    factor = max(least, min(image.size) / side)
    size = (round(image.width / factor), round(image.height / factor))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.uint8)
