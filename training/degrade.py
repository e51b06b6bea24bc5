"""Degradation for training: blur, noise and compression, with a strength that follows a random walk over the frames.

After RealBasicVSR (Chan et al., arXiv 2111.12704, section 3.2 and its training set-up): parameters follow a random walk
along the sequence, because real degradation drifts rather than jumps.
"""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from torch.nn import functional

from kernels.colour import YuvLayout, rgb_to_yuv, yuv_to_rgb
from runtime.media.codecs import x264_instructions
from runtime.media.pixel_formats import YuvFrame, read_planes, write_planes

_LAYOUT = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")


@dataclass(frozen=True, slots=True)
class Degradation:
    """Ranges of the degradations of a sequence; a share is the probability of one."""

    clean_share: float = 1.0
    blur_share: float = 0.5
    blur_sigma: tuple[float, float] = (0.3, 1.2)
    noise_share: float = 0.7
    noise_sigma: tuple[float, float] = (1.0, 16.0)
    compress_share: float = 0.8
    crf: tuple[int, int] = (18, 34)


def shrink(sequence: torch.Tensor, factor: int) -> torch.Tensor:
    """Downscale a sequence by bicubic with anti-aliasing, and round it to 8 bits.

    Args:
        sequence: (frames, 3, height, width) float32 in [0, 1].
        factor: 1 keeps the size.
    """
    if factor > 1:
        sequence = functional.interpolate(
            sequence, scale_factor=1 / factor, mode="bicubic", antialias=True, align_corners=False
        )
    return quantise(sequence)


def quantise(sequence: torch.Tensor) -> torch.Tensor:
    """Round to 8 bits, as a stored frame is."""
    return (sequence.clamp(0, 1) * 255).round() / 255


def degrade(sequence: torch.Tensor, factor: int, ranges: Degradation, rng: np.random.Generator) -> torch.Tensor:
    """Degrade a ground-truth sequence: blur, downscale, noise, H.264, each with its probability.

    Args:
        sequence: (frames, 3, height, width) float32 in [0, 1].
        factor: Of the downscaling.
        ranges: Ranges and probabilities.
        rng: The only source of randomness.

    Returns:
        (frames, 3, height / factor, width / factor) float32 in [0, 1], multiples of 1/255.
    """
    if rng.random() < ranges.clean_share:
        return shrink(sequence, factor)
    if rng.random() < ranges.blur_share:
        sequence = _blur(sequence, walk(rng, ranges.blur_sigma, len(sequence)) * factor)
    if factor > 1:
        sequence = functional.interpolate(
            sequence, scale_factor=1 / factor, mode="bicubic", antialias=True, align_corners=False
        )
    if rng.random() < ranges.noise_share:
        sequence = _add_noise(sequence, walk(rng, ranges.noise_sigma, len(sequence)), rng)
    sequence = quantise(sequence)
    if rng.random() < ranges.compress_share:
        sequence = compress(sequence, int(rng.integers(ranges.crf[0], ranges.crf[1] + 1)))
    return sequence


def walk(rng: np.random.Generator, bounds: tuple[float, float], steps: int) -> np.ndarray:
    """Return a parameter's value at each frame: a uniform start, then small random steps within the bounds."""
    low, high = bounds
    steps_taken = rng.normal(0, 0.03 * (high - low), steps)
    steps_taken[0] = rng.uniform(low, high)
    return np.clip(np.cumsum(steps_taken), low, high)


def _blur(sequence: torch.Tensor, sigmas: np.ndarray) -> torch.Tensor:
    frames, channels, height, width = sequence.shape
    radius = max(1, int(np.ceil(2.5 * sigmas.max())))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    taps = torch.exp(-(offsets**2) / (2 * torch.from_numpy(sigmas.astype(np.float32))[:, None] ** 2))
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    flat = sequence.reshape(1, frames * channels, height, width)
    flat = functional.pad(flat, (radius,) * 4, mode="reflect")
    flat = functional.conv2d(flat, taps[:, :, None, :], groups=frames * channels)
    flat = functional.conv2d(flat, taps[:, :, :, None], groups=frames * channels)
    return flat.reshape(sequence.shape)


def _add_noise(sequence: torch.Tensor, sigmas: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Add sensor noise: Gaussian, partly shared by the channels; in half of the draws stronger in bright areas."""
    shape = sequence.shape
    luma = torch.from_numpy(rng.standard_normal((shape[0], 1, *shape[2:]), np.float32))
    colour = torch.from_numpy(rng.standard_normal(shape, np.float32))
    share = float(rng.uniform(0, 1))
    noise = (share**0.5) * luma + ((1 - share) ** 0.5) * colour
    if rng.random() < 0.5:
        noise = noise * (0.4 + 1.2 * sequence).sqrt()
    return sequence + noise * torch.from_numpy(sigmas.astype(np.float32) / 255)[:, None, None, None]


def compress(sequence: torch.Tensor, crf: int, *, codec: str = "libx264") -> torch.Tensor:
    """Encode a sequence and decode it again.

    Args:
        sequence: (frames, 3, height, width) float32 in [0, 1], even height and width.
        crf: Constant rate factor, higher is worse.
        codec: libx264 or libx265.
    """
    frames, _, height, width = sequence.shape
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
    if codec == "libx264":
        encoder.options |= {"x264-params": ":".join(x264_instructions())}
    decoder = av.CodecContext.create("h264" if codec == "libx264" else "hevc", "r")
    decoded: list[torch.Tensor] = []

    def read(packets: list[av.Packet]) -> None:
        for packet in packets:
            decoded.extend(_rgb(frame) for frame in decoder.decode(packet))

    for index in range(frames):
        # Not swscale: its right edge of small frames is not deterministic.
        planes = rgb_to_yuv(sequence[index].numpy(), _LAYOUT)
        image = write_planes(YuvFrame(planes, 8, "420", index, 1), width=width, height=height)
        image.pts, image.time_base = index, Fraction(1, 25)
        read(encoder.encode(image))
    read(encoder.encode(None))
    decoded.extend(_rgb(frame) for frame in decoder.decode(None))
    if len(decoded) != frames:
        raise RuntimeError(f"{codec} returned {len(decoded)} of {frames} frames")
    return quantise(torch.stack(decoded))


def _rgb(frame: av.VideoFrame) -> torch.Tensor:
    return torch.from_numpy(yuv_to_rgb(read_planes(frame), _LAYOUT))
