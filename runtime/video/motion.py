"""Motion between frames: optical flow to the previous frame, and scene cuts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.colour import rgb_to_luma
from kernels.flow import estimate_flow
from kernels.measures import block_means
from kernels.warp import warp
from kernels.workers import SINGLE, Workers
from runtime.video.tile_plan import Canvas

_BLOCK = 4
LEAST_CHANGE = 0.04
LEAST_UNEXPLAINED = 0.5

Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame ready for the engine.

    rgb: (3, padded height, padded width) float32 in [0, 1], the source's edge repeated up to the canvas.
    flow: (2, plane height, plane width) float32 to the previous frame; None where a scene begins.
    """

    index: int
    pts: int
    duration: int
    rgb: Frame
    flow: Frame | None


class MotionEstimator:
    """Estimates the motion since the previous frame, and detects scene cuts.

    One instance serves one clip, frame after frame, from one thread.
    """

    def __init__(self, canvas: Canvas, *, aligned: bool, workers: Workers = SINGLE) -> None:
        self._canvas = canvas
        self._aligned, self._workers = aligned, workers
        self._still = np.zeros((2, canvas.height, canvas.width), np.float32)
        self._previous: Frame | None = None
        self._count = 0
        self.scene_cuts: list[int] = []
        """Indices of the frames that begin a new scene; the clip's first is not among them."""

    @property
    def previous(self) -> Frame | None:
        """The brightness of the newest frame: all that the next one needs of those before."""
        return self._previous

    @property
    def count(self) -> int:
        """Frames taken so far; the index of the next."""
        return self._count

    def restore(self, count: int, previous: Frame | None, scene_cuts: Sequence[int]) -> None:
        """Go on after `count` frames of an earlier run, whose `previous` was kept; None begins a scene."""
        self._count, self._previous, self.scene_cuts = count, previous, list(scene_cuts)

    def push(self, rgb: Frame, *, pts: int, duration: int) -> PreparedFrame:
        """Return the next frame, already padded to the canvas, with its motion since the previous one."""
        luma = rgb_to_luma(rgb, self._canvas.grid, workers=self._workers)
        index, self._count = self._count, self._count + 1
        flow = None
        if self._previous is not None:
            flow = estimate_flow(luma, self._previous) if self._aligned else self._still
            is_cut = is_scene_cut(luma, self._previous, flow, workers=self._workers)
            if is_cut and not self._aligned:
                # What changed may only have moved; for a network that needs no flow it is looked for here alone.
                is_cut = is_scene_cut(luma, self._previous, estimate_flow(luma, self._previous))
            if is_cut:
                self.scene_cuts.append(index)
                flow = None
        self._previous = luma
        return PreparedFrame(index, pts, duration, rgb, flow)


def is_scene_cut(luma: Frame, previous: Frame, flow: Frame, *, workers: Workers = SINGLE) -> bool:
    """Return whether a frame begins a new scene.

    It does when the previous frame, moved by the flow, leaves a change that is visible and more than half of the
    frame's own contrast. Both are taken of means over blocks, so that noise does not count.
    """
    if min(luma.shape) < _BLOCK:
        return False
    blocks, change = block_means(luma, warp(previous[None], flow, workers=workers)[0], _BLOCK)
    unexplained = float(np.abs(change).mean())
    contrast = float(np.abs(blocks - blocks.mean()).mean())
    return unexplained > LEAST_CHANGE and unexplained > LEAST_UNEXPLAINED * contrast
