"""Short sharp sequences cut from footage: crops of clips, and photographs under a camera that drifts."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.footage import Footage


def draw_sequence(
    footage: Footage, rng: np.random.Generator, *, frames: int, size: int, photo_share: float
) -> torch.Tensor:
    """Draw one sharp sequence, flipped, turned and reversed at random.

    Returns:
        (frames, 3, size, size) float32 in [0, 1].
    """
    moving_photo = not footage.clips or (footage.photos and rng.random() < photo_share)
    draw = _move_photo if moving_photo else _crop_clip
    sequence = draw(footage, rng, frames, size)
    if rng.random() < 0.5:
        sequence = sequence.flip(3)
    if rng.random() < 0.5:
        sequence = sequence.flip(0)
    return torch.rot90(sequence, int(rng.integers(4)), (2, 3)).contiguous()


def _crop_clip(footage: Footage, rng: np.random.Generator, frames: int, size: int) -> torch.Tensor:
    lengths = np.array([min(len(clip), 60) for clip in footage.clips], float)
    clip = footage.clips[int(rng.choice(len(lengths), p=lengths / lengths.sum()))]
    stride = int(rng.integers(1, 3)) if len(clip) >= 2 * frames else 1
    indices = np.arange(frames) * stride
    # A clip that is too short is played to and fro.
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


def _move_photo(footage: Footage, rng: np.random.Generator, frames: int, size: int) -> torch.Tensor:
    """Look at a photograph through a window that drifts, turns and zooms as a hand-held camera does."""
    photo = footage.photos[int(rng.integers(len(footage.photos)))]
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
