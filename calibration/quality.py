"""What a file of a video model gives on clips whose truth is known: PSNR of luma, and how two files differ.

The clip is the truth, brought down to a short side that takes its coding marks away. What the network gets is the truth
brought down by bicubic (`bicubic`), and then blurred (`blurred`), with noise (`noisy`), or with noise and H.264
(`degraded`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from calibration.clips import run_model
from runtime.engine.session import Backend
from runtime.manifest import Model
from training.degrade import compress

BORDER = 8
Pixels = NDArray[np.uint8]


KINDS = ("bicubic", "blurred", "noisy", "degraded")


@dataclass(frozen=True, slots=True)
class Spoiling:
    """How the truth is spoiled: one of `KINDS`, and what these need.

    noise_sigma: Of 255.
    crf: Of H.264.
    blur_sigma: Of the Gaussian, in pixels of what the network gets.
    """

    kind: str = "bicubic"
    noise_sigma: float = 8.0
    crf: int = 28
    blur_sigma: float = 1.6

    def __post_init__(self) -> None:
        """Refuse a kind that there is not."""
        if self.kind not in KINDS:
            raise ValueError(f"got kind {self.kind!r}, expected one of {', '.join(KINDS)}")

    def __str__(self) -> str:
        noise, blur = f"noise sigma {self.noise_sigma:g}", f"blur sigma {self.blur_sigma:g}"
        words = {"bicubic": "bicubic", "blurred": blur, "noisy": noise, "degraded": f"{noise}, H.264 CRF {self.crf}"}
        return words[self.kind]


@dataclass(frozen=True, slots=True)
class TestClip:
    """A clip's truth and what the network gets of it."""

    __test__ = False  # pytest takes the name for a test's

    name: str
    truth: tuple[Pixels, ...]
    poor: tuple[Pixels, ...]


def make_test_clip(model: Model, path: Path, *, frames: int, side: int, spoiling: Spoiling) -> TestClip:
    """Read a clip's truth and spoil it for a model."""
    spec = model.manifest.video
    assert spec is not None
    truth = read_truth(path, frames=frames, multiple=2 * spec.scale, side=side)
    poor = spoil(truth, spoiling, scale=spec.scale)
    return TestClip(path.name, tuple(truth), tuple(poor))


def measure_psnr(model: Model, clips: Sequence[TestClip], backend: Backend) -> float:
    """Return the mean PSNR-Y in dB over the clips of what a session makes of them; minus infinity if it blew up."""
    means = []
    for clip in clips:
        made = enhance(model, clip.poor, backend)
        means.append(np.mean([psnr(result, truth) for result, truth in zip(made, clip.truth, strict=True)]))
    return float(np.mean(means))


def enhance(model: Model, frames: Sequence[Pixels], backend: Backend) -> Iterator[Pixels]:
    """Run a model over frames as the video pipeline does.

    Raises:
        ArithmeticError: A tile was not finite and something else took its place, which a measurement must not hide.
    """
    planes = (np.ascontiguousarray(frame.transpose(2, 0, 1), np.float32) / 255 for frame in frames)
    for rgb in run_model(model, planes, backend):
        yield np.asarray((rgb.clip(0, 1) * 255).round(), np.uint8).transpose(1, 2, 0)


def read_truth(path: Path, *, frames: int, multiple: int, side: int) -> list[Pixels]:
    """Read the first frames of a clip as RGB, brought down to a short side, and cut to a multiple of the scale."""
    found: list[Pixels] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            shrink = min(pixels.shape[:2]) / side
            if shrink > 1:
                pixels = resize(pixels, round(pixels.shape[1] / shrink), round(pixels.shape[0] / shrink))
            height, width = (side // multiple * multiple for side in pixels.shape[:2])
            found.append(pixels[:height, :width])
            if len(found) == frames:
                break
    return found


def spoil(truth: Sequence[Pixels], spoiling: Spoiling, *, scale: int) -> list[Pixels]:
    """Make what the model gets."""
    height, width = truth[0].shape[:2]
    small = [resize(frame, width // scale, height // scale) for frame in truth]
    if spoiling.kind == "bicubic":
        return small
    if spoiling.kind == "blurred":
        blur = ImageFilter.GaussianBlur(spoiling.blur_sigma)
        return [np.asarray(Image.fromarray(frame).filter(blur), np.uint8) for frame in small]
    generator = np.random.default_rng(2026)
    noisy = [frame + generator.normal(0, spoiling.noise_sigma, frame.shape) for frame in small]
    stack = torch.from_numpy(np.stack(noisy).clip(0, 255).astype(np.float32) / 255).permute(0, 3, 1, 2)
    coded = compress(stack, spoiling.crf) if spoiling.kind == "degraded" else stack
    return [np.asarray((frame * 255).round(), np.uint8) for frame in coded.permute(0, 2, 3, 1).numpy()]


def luma(pixels: Pixels) -> NDArray[np.float64]:
    """Return BT.601 studio luma, 16 to 235, as super-resolution papers do."""
    inner = pixels[BORDER:-BORDER, BORDER:-BORDER].astype(np.float64) / 255
    return 16 + inner @ np.array([65.481, 128.553, 24.966])


def psnr(one: Pixels, other: Pixels) -> float:
    """Return PSNR-Y in dB."""
    return float(10 * np.log10(255**2 / max(np.mean((luma(one) - luma(other)) ** 2), 1e-6)))


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize by bicubic."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), np.uint8)
