"""Pairs of poor and sharp sequences: what every video network learns from and is measured on."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.degrade import Degradation, degrade
from training.footage import load_clip, load_footage
from training.sequences import draw_sequence

HELD_OUT_FRAMES = 12


class PairSettings(BaseModel):
    """The part of a recipe's `[task]` table that tells how footage becomes pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(default=8, gt=0, description="frames of a training sequence")
    crop: int = Field(default=64, gt=7, description="side of the degraded crop, pixels")
    photo_share: float = Field(default=0.3, ge=0, le=1)
    clip_side: int = 432
    photo_side: int = 1200
    clip_frames: int = 90
    degradation: dict[str, Any] = {}
    held_out: tuple[str, ...]
    held_out_side: int = Field(default=384, gt=31, description="of what validation looks at, sharp pixels at most")


class Pairs:
    """Draws training pairs out of a folder of footage and makes the fixed ones of the validation.

    Args:
        settings: How.
        media: Folder with `video/` and `images/`.
        scale: How many times smaller the poor sequence is.
        multiple: What the sides of the poor sequence are multiples of.
    """

    def __init__(self, settings: PairSettings, media: Path, *, scale: int, multiple: int = 1) -> None:
        self._settings, self._scale = settings, scale
        self._ranges = Degradation(**_tuples(settings.degradation))
        self._footage = load_footage(
            media,
            held_out=settings.held_out,
            clip_side=settings.clip_side,
            photo_side=settings.photo_side,
            frames=settings.clip_frames,
        )
        self.held_out = self._make_held_out(media, multiple)
        """Poor and sharp by the clip's name, (frames, 3, height, width) each."""

    def draw(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw `size` pairs: poor and sharp, (size, frames, 3, height, width) float32 in [0, 1]."""
        settings = self._settings
        sharp = [
            draw_sequence(
                self._footage,
                rng,
                frames=settings.frames,
                size=settings.crop * self._scale,
                photo_share=settings.photo_share,
            )
            for _ in range(size)
        ]
        poor = [degrade(sequence, self._scale, self._ranges, rng) for sequence in sharp]
        return torch.stack(poor), torch.stack(sharp)

    def _make_held_out(self, media: Path, multiple: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Cut the middle out of each held-out clip and spoil it with a fixed seed."""
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
            sharp = torch.from_numpy(cut.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
            rng = np.random.default_rng((7, index))
            pairs[path.stem] = (degrade(sharp, self._scale, self._ranges, rng), sharp)
        return pairs


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for k, v in table.items()}
