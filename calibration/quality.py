"""PSNR of luma of a video model on clips with ground truth.

The clip is the ground truth (`gt`), downscaled to a short side that removes compression artefacts. The model's input
(`lq`) is the ground truth downscaled by bicubic (`bicubic`), then blurred (`blurred`), with noise (`noisy`), or with
noise and H.264 (`degraded`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from calibration.recording import run_model
from runtime.engine.session import Backend
from runtime.manifest import Model
from training.degrade import compress

BORDER = 8
Pixels = NDArray[np.uint8]


KINDS = ("bicubic", "blurred", "noisy", "degraded")


@dataclass(frozen=True, slots=True)
class TestDegradation:
    """A fixed degradation: one of `KINDS` and its parameters.

    noise_sigma: Of 255.
    crf: Of H.264.
    blur_sigma: Of the Gaussian, in pixels of the model's input.
    """

    __test__ = False  # not a test class of pytest

    kind: str = "bicubic"
    noise_sigma: float = 8.0
    crf: int = 28
    blur_sigma: float = 1.6

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in KINDS:
            raise ValueError(f"got kind {self.kind!r}, expected one of {', '.join(KINDS)}")

    def __str__(self) -> str:
        noise, blur = f"noise sigma {self.noise_sigma:g}", f"blur sigma {self.blur_sigma:g}"
        words = {"bicubic": "bicubic", "blurred": blur, "noisy": noise, "degraded": f"{noise}, H.264 CRF {self.crf}"}
        return words[self.kind]


@dataclass(frozen=True, slots=True)
class TestClip:
    """A clip's ground truth and the model's input."""

    __test__ = False  # not a test class of pytest

    name: str
    gt: tuple[Pixels, ...]
    lq: tuple[Pixels, ...]


def make_test_clip(model: Model, path: Path, *, frames: int, side: int, degradation: TestDegradation) -> TestClip:
    """Read a clip's ground truth and degrade it for a model."""
    spec = model.manifest.video
    assert spec is not None
    gt = read_ground_truth(path, frames=frames, multiple=2 * spec.scale, side=side)
    lq = degrade_clip(gt, degradation, scale=spec.scale)
    return TestClip(path.name, tuple(gt), tuple(lq))


def measure_psnr(model: Model, clips: Sequence[TestClip], backend: Backend) -> float:
    """Return the mean PSNR-Y in dB over the clips."""
    means = []
    for clip in clips:
        made = enhance(model, clip.lq, backend)
        means.append(np.mean([psnr(result, gt) for result, gt in zip(made, clip.gt, strict=True)]))
    return float(np.mean(means))


def enhance(model: Model, frames: Sequence[Pixels], backend: Backend) -> Iterator[Pixels]:
    """Run a model over frames as the video pipeline does.

    Raises:
        ArithmeticError: A tile was not finite; a measurement must not use its fallback.
    """
    planes = (np.ascontiguousarray(frame.transpose(2, 0, 1), np.float32) / 255 for frame in frames)
    for rgb in run_model(model, planes, backend):
        yield np.asarray((rgb.clip(0, 1) * 255).round(), np.uint8).transpose(1, 2, 0)


def read_ground_truth(path: Path, *, frames: int, multiple: int, side: int) -> list[Pixels]:
    """Read the first frames of a clip as RGB, downscaled to a short side and cropped to a multiple of the scale."""
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


def degrade_clip(gt: Sequence[Pixels], degradation: TestDegradation, *, scale: int) -> list[Pixels]:
    """Return the model's input."""
    height, width = gt[0].shape[:2]
    small = [resize(frame, width // scale, height // scale) for frame in gt]
    if degradation.kind == "bicubic":
        return small
    if degradation.kind == "blurred":
        blur = ImageFilter.GaussianBlur(degradation.blur_sigma)
        return [np.asarray(Image.fromarray(frame).filter(blur), np.uint8) for frame in small]
    generator = np.random.default_rng(2026)
    noisy = [frame + generator.normal(0, degradation.noise_sigma, frame.shape) for frame in small]
    stack = torch.from_numpy(np.stack(noisy).clip(0, 255).astype(np.float32) / 255).permute(0, 3, 1, 2)
    coded = compress(stack, degradation.crf) if degradation.kind == "degraded" else stack
    return [np.asarray((frame * 255).round(), np.uint8) for frame in coded.permute(0, 2, 3, 1).numpy()]


def luma(pixels: Pixels) -> NDArray[np.float64]:
    """Return BT.601 studio luma, 16 to 235, as in the super-resolution literature."""
    inner = pixels[BORDER:-BORDER, BORDER:-BORDER].astype(np.float64) / 255
    return 16 + inner @ np.array([65.481, 128.553, 24.966])


def psnr(one: Pixels, other: Pixels) -> float:
    """Return PSNR-Y in dB."""
    return float(10 * np.log10(255**2 / max(np.mean((luma(one) - luma(other)) ** 2), 1e-6)))


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize by bicubic."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), np.uint8)
