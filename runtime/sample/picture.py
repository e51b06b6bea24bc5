"""The picture of the sample clip: a camera that moves over two photographs, then a poor sensor."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH: Final = 320
HEIGHT: Final = 180

_NOISE: Final = 4.0
_OVERSAMPLING: Final = 2


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees of a photograph: centre and width in its pixels, and its tilt."""

    x: float
    y: float
    width: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph of `skimage.data` and the camera's way over it."""

    photograph: str
    start: View
    end: View


SCENES: Final = (
    Scene("coffee", View(250, 190, 470, -3.0), View(330, 215, 400, 4.0)),
    Scene("astronaut", View(245, 170, 440, 2.0), View(220, 125, 320, -2.0)),
)


def render_frames(frames_per_scene: int, *, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Film every scene, one after the other.

    Yields:
        (180, 320, 3) uint8, RGB.
    """
    noise = np.random.default_rng(seed)
    for scene in SCENES:
        photograph = _open_photograph(scene.photograph)
        for number in range(frames_per_scene):
            view = _between(scene.start, scene.end, number / max(1, frames_per_scene - 1))
            clean = np.asarray(_film(photograph, view), dtype=np.float32)
            spoiled = clean + noise.normal(0.0, _NOISE, clean.shape)
            yield spoiled.round().clip(0, 255).astype(np.uint8)


def _open_photograph(name: str) -> "Image":
    import skimage.data
    from PIL import Image

    return Image.fromarray(getattr(skimage.data, name)())


def _between(start: View, end: View, position: float) -> View:
    # A cosine way: the camera starts and stops gently, as a hand does.
    share = 0.5 - 0.5 * math.cos(math.pi * position)
    return View(
        x=start.x + share * (end.x - start.x),
        y=start.y + share * (end.y - start.y),
        width=start.width + share * (end.width - start.width),
        tilt_degrees=start.tilt_degrees + share * (end.tilt_degrees - start.tilt_degrees),
    )


def _film(photograph: "Image", view: View) -> "Image":
    from PIL import Image

    size = (WIDTH * _OVERSAMPLING, HEIGHT * _OVERSAMPLING)
    step = view.width / size[0]
    along = step * math.cos(math.radians(view.tilt_degrees))
    across = step * math.sin(math.radians(view.tilt_degrees))
    # Pillow takes the inverse map: from a pixel of the result to its place in the photograph.
    inverse = (
        along,
        -across,
        view.x - along * size[0] / 2 + across * size[1] / 2,
        across,
        along,
        view.y - across * size[0] / 2 - along * size[1] / 2,
    )
    large = photograph.transform(size, Image.Transform.AFFINE, inverse, resample=Image.Resampling.BICUBIC)
    return large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
