"""Bicubic upscaling beside a network: the fallback where its result failed, and blended with it by the strength."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kernels.measures import is_within
from runtime.video.tile_plan import Canvas

_LARGEST = 8.0
"""A frame lies in [0, 1]; a network whose output leaves this far behind has blown up, as NaN would show later."""

Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TileRetry:
    """A tile whose result was not finite: cured by running it from a clean state, or replaced by bicubic."""

    frame: int
    tile: int
    cured: bool


def is_valid(result: Frame, states: Iterable[Frame] = ()) -> bool:
    """Return whether a result is finite and within reason, and its states finite."""
    return is_within(result, _LARGEST) and all(map(is_within, states))


def upscale_bicubic(frame: Frame, scale: int) -> Frame:
    """Upscale (3, height, width) float32 by bicubic interpolation; values that are not finite are replaced."""
    frame = np.nan_to_num(frame, nan=0.5, posinf=1.0, neginf=0.0)
    size = (frame.shape[2] * scale, frame.shape[1] * scale)
    return np.stack(
        [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC), np.float32) for plane in frame]
    )


def blend_by_strength(canvas: Canvas, rgb: Frame, result: Frame, strength: float) -> Frame:
    """Crop a result to the source's size times the scale, and blend it with the bicubic upscaling by the strength.

    For networks that take no strength themselves.

    Args:
        canvas: The sizes.
        rgb: The frame that went in, (3, padded height, padded width) float32.
        result: (3, scale padded height, scale padded width) float32.
        strength: 0 is bicubic upscaling, 1 the network's result.

    Returns:
        (3, scale height, scale width) float32, a view of `result` where nothing is mixed.
    """
    height, width = canvas.source_height, canvas.source_width
    picture = result[:, : height * canvas.scale, : width * canvas.scale]
    if strength == 1:
        return picture
    plain = upscale_bicubic(rgb[:, :height, :width], canvas.scale)
    return plain + np.float32(strength) * (picture - plain)
