"""Tiles that stand still, as before a fixed camera: their last result is kept instead of computed again."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kernels.measures import largest_block_change

Frame = NDArray[np.float32]

TILE_PIXELS: Final = 32_000
"""Of a tile of the network's plane: small enough that something moving leaves most of a frame alone."""


@dataclass(frozen=True, slots=True)
class StaticRule:
    """When a tile counts as still.

    frame_change: Largest mean difference of a block of 8x8 pixels from the frame of the last run, of 1.
    settle_runs: Runs in a row on the same picture after which the states gather hardly any more detail from it. The
        change of the states themselves is less informative: noise in the frames keeps changing them.
    refresh_frames: A tile is computed at least once in so many frames; not all of them in the same one.
    """

    frame_change: float = 2 / 255
    settle_runs: int = 16
    refresh_frames: int = 50


class StaticTiles:
    """What the tiles of a recurrent runner saw in their last runs, and whether they may keep those results."""

    def __init__(self, count: int, rule: StaticRule) -> None:
        self._rule = rule
        self._seen: list[Frame | None] = [None] * count
        self._runs = [0] * count
        """Runs in a row on the same picture, the newest included."""

    def is_still(self, number: int, index: int, rgb: Frame) -> bool:
        """Return whether a tile may keep its result; the next call of `note_run` counts as a run on the same picture.

        Args:
            number: The tile's.
            index: The frame's.
            rgb: (3, height, width) float32, C-contiguous, what the tile would read.
        """
        seen = self._seen[number]
        if seen is None or self._runs[number] == 0 or largest_block_change(rgb, seen) >= self._rule.frame_change:
            self._runs[number] = 0
            return False
        is_due = (index + number) % self._rule.refresh_frames == 0
        return self._runs[number] >= self._rule.settle_runs and not is_due

    def note_run(self, number: int, rgb: Frame) -> None:
        """Keep what a tile read in a run that succeeded."""
        seen = self._seen[number]
        if seen is None:
            self._seen[number] = rgb.copy()
        else:
            np.copyto(seen, rgb)
        self._runs[number] += 1

    def note_failure(self, number: int) -> None:
        """Have a tile computed in the next frame, whatever it shows."""
        self._runs[number] = 0

    def forget(self) -> None:
        """Have every tile computed in the next frame."""
        self._runs = [0] * len(self._runs)
