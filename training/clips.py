"""Ground truth for training: clips downscaled to remove compression artefacts, and photographs that move."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

logger = logging.getLogger(__name__)

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """The material that sequences are cut from.

    clips: each (frames, height, width, 3) uint8 RGB, consecutive frames.
    photos: each (height, width, 3) uint8 RGB.
    """

    clips: tuple[Frames, ...]
    photos: tuple[NDArray[np.uint8], ...]


def load_clips(folder: Path, *, held_out: Sequence[str], clip_side: int, photo_side: int, frames: int) -> TrainingClips:
    """Read a folder of `video/` and `images/`, without the files held out for validation.

    Args:
        folder: Holds `video/*` and `images/**/*`.
        held_out: File names, without folders, that are excluded from training.
        clip_side: Short side that clips are downscaled to, which removes compression artefacts.
        photo_side: Short side that photographs are downscaled to.
        frames: Maximum number of frames per clip, in spans spread over its length.

    Returns:
        Clips without a short side of at least 200 pixels are left out.
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
    return TrainingClips(tuple(clips), tuple(photos))


def load_clip(path: Path, *, side: int, frames: int, spans: int = 3, least_shrink: float = 1.5) -> list[Frames]:
    """Decode spans of consecutive frames of a clip, downscaled to remove compression artefacts."""
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


def draw_sequence(
    clips: TrainingClips, rng: np.random.Generator, *, frames: int, size: int, photo_share: float
) -> torch.Tensor:
    """Draw a ground-truth sequence, flipped, rotated and reversed at random.

    Returns:
        (frames, 3, size, size) float32 in [0, 1].
    """
    moving_photo = not clips.clips or (clips.photos and rng.random() < photo_share)
    draw = _move_photo if moving_photo else _crop_clip
    sequence = draw(clips, rng, frames, size)
    if rng.random() < 0.5:
        sequence = sequence.flip(3)
    if rng.random() < 0.5:
        sequence = sequence.flip(0)
    return torch.rot90(sequence, int(rng.integers(4)), (2, 3)).contiguous()


def _crop_clip(clips: TrainingClips, rng: np.random.Generator, frames: int, size: int) -> torch.Tensor:
    lengths = np.array([min(len(clip), 60) for clip in clips.clips], float)
    clip = clips.clips[int(rng.choice(len(lengths), p=lengths / lengths.sum()))]
    stride = int(rng.integers(1, 3)) if len(clip) >= 2 * frames else 1
    indices = np.arange(frames) * stride
    # A clip that is too short is played forwards and backwards.
    indices = _fold(int(rng.integers(max(1, len(clip) - indices[-1]))) + indices, len(clip))
    best, best_detail = None, -1.0
    for _ in range(2):
        top = int(rng.integers(clip.shape[1] - size + 1)) if clip.shape[1] > size else 0
        left = int(rng.integers(clip.shape[2] - size + 1)) if clip.shape[2] > size else 0
        crop = clip[indices, top : top + size, left : left + size]
        detail = float(crop[0].astype(np.float32).std())
        if detail > best_detail:
            best, best_detail = crop, detail
    assert best is not None
    pad_y, pad_x = size - best.shape[1], size - best.shape[2]
    if pad_y or pad_x:
        best = np.pad(best, ((0, 0), (0, pad_y), (0, pad_x), (0, 0)), mode="reflect")
    return torch.from_numpy(best.astype(np.float32) / 255).permute(0, 3, 1, 2)


def _fold(indices: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    if length == 1:
        return np.zeros_like(indices)
    period = 2 * (length - 1)
    indices = indices % period
    return np.where(indices < length, indices, period - indices)


def _move_photo(clips: TrainingClips, rng: np.random.Generator, frames: int, size: int) -> torch.Tensor:
    """Move a crop window over a photograph with the drift, rotation and zoom of a hand-held camera."""
    photo = clips.photos[int(rng.integers(len(clips.photos)))]
    reach = int(size * 1.5)
    if min(photo.shape[:2]) <= reach:
        reach = min(photo.shape[:2]) - 1
    top = int(rng.integers(photo.shape[0] - reach))
    left = int(rng.integers(photo.shape[1] - reach))
    patch = torch.from_numpy(photo[top : top + reach, left : left + reach].astype(np.float32) / 255)
    time = np.arange(frames) - (frames - 1) / 2
    speed = rng.normal(0, 4.0, 2) * rng.choice([0.2, 1.0])
    shake = np.cumsum(rng.normal(0, 0.6, (frames, 2)), axis=0)
    angle = math.radians(rng.normal(0, 0.6)) * time + math.radians(rng.uniform(-15, 15))
    zoom = rng.uniform(0.75, 1.0) * np.exp(rng.normal(0, 0.004) * time)
    grids = []
    for index in range(frames):
        cosine, sine = math.cos(angle[index]) * zoom[index], math.sin(angle[index]) * zoom[index]
        shift = 2 * (speed * time[index] + shake[index]) / reach
        share = size / reach
        theta = torch.tensor(
            [[cosine * share, -sine * share, shift[0]], [sine * share, cosine * share, shift[1]]],
            dtype=torch.float32,
        )
        grids.append(theta)
    grid = functional.affine_grid(torch.stack(grids), [frames, 3, size, size], align_corners=False)
    image = patch.permute(2, 0, 1).expand(frames, -1, -1, -1)
    moved = functional.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved.clamp(0, 1)
