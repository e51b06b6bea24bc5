"""What exported files are compared on: random tiles, and tiles cut out of a real clip."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from export.graph import random_inputs

Tile = dict[str, NDArray[np.float32]]


def random_tiles(shapes: dict[str, tuple[int, ...]], count: int, *, seed: int = 1) -> Iterator[Tile]:
    """Give noise in [0, 1]."""
    for index in range(count):
        yield random_inputs(shapes, seed + index)


def real_tiles(shapes: dict[str, tuple[int, ...]], clip: Path, count: int, *, seed: int = 1) -> Iterator[Tile]:
    """Cut tiles of consecutive frames out of a clip, at random places; inputs that are no pictures stay noise.

    Raises:
        ValueError: The clip is smaller or shorter than a tile, or no input is a picture.
    """
    pictures = {name: shape for name, shape in shapes.items() if len(shape) >= 4 and shape[-3] in (3, 4)}
    if not pictures:
        raise ValueError(f"got inputs {sorted(shapes)}; none of them is a picture to cut out of a clip")
    frames = _decode(clip)
    generator = np.random.default_rng(seed)
    for index in range(count):
        tile = random_inputs(shapes, seed + index)
        for name, shape in pictures.items():
            tile[name] = _cut(frames, shape, generator, clip)
        yield tile


def _cut(
    frames: NDArray[np.uint8], shape: tuple[int, ...], generator: np.random.Generator, clip: Path
) -> NDArray[np.float32]:
    length = shape[1] if len(shape) == 5 else 1
    channels, height, width = shape[-3:]
    spare = (frames.shape[0] - length, frames.shape[1] - height, frames.shape[2] - width)
    if min(spare) < 0:
        raise ValueError(
            f"{clip} has {frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}; a tile needs {length} of "
            f"{width}x{height}: give a longer or larger clip"
        )
    first, top, left = (int(generator.integers(0, limit + 1)) for limit in spare)
    cut = frames[first : first + length, top : top + height, left : left + width].transpose(0, 3, 1, 2) / np.float32(
        255
    )
    if channels == 4:
        level = np.full((length, 1, height, width), 10 / 255, np.float32)
        cut = np.concatenate((cut, level), axis=1)
    return np.ascontiguousarray(cut.reshape(shape), np.float32)


def _decode(clip: Path, *, most: int = 60) -> NDArray[np.uint8]:
    frames = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == most:
                break
    return np.stack(frames)
