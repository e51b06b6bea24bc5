"""Pairs of low-quality (`lq`) and ground-truth (`gt`) sequences, for training and validation of video networks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.clips import draw_sequence, load_clip, load_clips
from training.degrade import Degradation, degrade

HELD_OUT_FRAMES = 12


class PairSettings(BaseModel):
    """The part of a recipe's `[task]` table that describes the pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(default=8, gt=0, description="frames of a training sequence")
    crop: int = Field(default=64, gt=7, description="side of the degraded crop, pixels")
    photo_share: float = Field(default=0.3, ge=0, le=1)
    clip_side: int = 432
    photo_side: int = 1200
    clip_frames: int = 90
    degradation: dict[str, Any] = {}
    held_out: tuple[str, ...]
    held_out_side: int = Field(default=384, gt=31, description="largest side of validation crops, ground-truth pixels")


class Pairs:
    """Draws training pairs from a folder of clips, and prepares the fixed pairs of the validation.

    Args:
        settings: Of the pairs.
        media: Folder with `video/` and `images/`.
        scale: Factor between the sizes of `gt` and `lq`.
        multiple: Divisor of the sides of `lq`.
    """

    def __init__(self, settings: PairSettings, media: Path, *, scale: int, multiple: int = 1) -> None:
        self._settings, self._scale = settings, scale
        self._ranges = Degradation(**_tuples(settings.degradation))
        self._clips = load_clips(
            media,
            held_out=settings.held_out,
            clip_side=settings.clip_side,
            photo_side=settings.photo_side,
            frames=settings.clip_frames,
        )
        self.held_out = self._make_held_out(media, multiple)
        """`lq` and `gt` by the clip's name, (frames, 3, height, width) each."""

    def draw(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw `size` pairs: `lq` and `gt`, (size, frames, 3, height, width) float32 in [0, 1]."""
        settings = self._settings
        gt = [
            draw_sequence(
                self._clips,
                rng,
                frames=settings.frames,
                size=settings.crop * self._scale,
                photo_share=settings.photo_share,
            )
            for _ in range(size)
        ]
        lq = [degrade(sequence, self._scale, self._ranges, rng) for sequence in gt]
        return torch.stack(lq), torch.stack(gt)

    def _make_held_out(self, media: Path, multiple: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Crop the centre of each held-out clip and degrade it with a fixed seed."""
        unit = math.lcm(16, self._scale * multiple * 2)  # H.264 takes even sides
        side = self._settings.held_out_side // unit * unit
        pairs = {}
        for index, name in enumerate(self._settings.held_out):
            path = media / "video" / name
            if not path.exists():
                continue
            clip = load_clip(path, side=720, frames=HELD_OUT_FRAMES, spans=1, least_shrink=1.0)[0]
            top, left = max(0, (clip.shape[1] - side) // 2), max(0, (clip.shape[2] - side) // 2)
            height = min(side, clip.shape[1] // unit * unit)
            cut = clip[:, top : top + height, left : left + side]
            gt = torch.from_numpy(cut.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
            rng = np.random.default_rng((7, index))
            pairs[path.stem] = (degrade(gt, self._scale, self._ranges, rng), gt)
        return pairs


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for k, v in table.items()}
