"""A sample clip for Relume: degraded photographs in motion, with speech-like audio in noise."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from runtime.errors import OptionError

if TYPE_CHECKING:
    from PIL.Image import Image


WIDTH: Final = 320
HEIGHT: Final = 180

_NOISE: Final = 4.0
_OVERSAMPLING: Final = 2


@dataclass(frozen=True, slots=True)
class View:
    """The camera's view of a photograph: centre and width in its pixels, and its tilt."""

    x: float
    y: float
    width: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph of `skimage.data` and the camera's path over it."""

    photograph: str
    start: View
    end: View


SCENES: Final = (
    Scene("coffee", View(250, 190, 470, -3.0), View(330, 215, 400, 4.0)),
    Scene("astronaut", View(245, 170, 440, 2.0), View(220, 125, 320, -2.0)),
)


def render_frames(frames_per_scene: int, *, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of every scene, one after the other.

    Yields:
        (180, 320, 3) uint8, RGB.
    """
    noise = np.random.default_rng(seed)
    for scene in SCENES:
        photograph = _open_photograph(scene.photograph)
        for number in range(frames_per_scene):
            view = _between(scene.start, scene.end, number / max(1, frames_per_scene - 1))
            clean = np.asarray(_film(photograph, view), dtype=np.float32)
            noisy = clean + noise.normal(0.0, _NOISE, clean.shape)
            yield noisy.round().clip(0, 255).astype(np.uint8)


def _open_photograph(name: str) -> "Image":
    import skimage.data
    from PIL import Image

    return Image.fromarray(getattr(skimage.data, name)())


def _between(start: View, end: View, position: float) -> View:
    # A cosine path: the camera starts and stops smoothly, as if hand-held.
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
    # Pillow takes the inverse map: from a pixel of the result to its position in the photograph.
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


SAMPLE_RATE: Final = 48000

_SYLLABLE_S: Final = 0.24
_PAUSE_EVERY: Final = 7
_SIGNAL_TO_NOISE_DB: Final = 6.0

# Frequency in Hz of the first three formants of five vowels, for a man's voice
# (Peterson and Barney, "Control Methods Used in a Study of the Vowels", 1952, table II).
_FORMANTS: Final = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
)
_FORMANT_GAINS: Final = (1.0, 0.5, 0.25)
_FORMANT_WIDTHS: Final = (60.0, 90.0, 140.0)


def make_audio(samples: int, *, seed: int = 1) -> NDArray[np.float32]:
    """Generate speech-like audio in noise.

    Returns:
        (samples,) float32, in [-1, 1].
    """
    random = np.random.default_rng(seed)
    voice = _speak(samples, random)
    noise = _rumble(samples, random)
    level = np.sqrt(np.mean(voice**2)) * 10.0 ** (-_SIGNAL_TO_NOISE_DB / 20.0)
    mixed = voice + noise * level
    loudest = float(np.abs(mixed).max())
    audio: NDArray[np.float32] = (0.5 * mixed / loudest).astype(np.float32)
    return audio


def _speak(samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    voice = np.zeros(samples)
    length = int(_SYLLABLE_S * SAMPLE_RATE)
    for number, start in enumerate(range(0, samples, length)):
        if number % _PAUSE_EVERY >= _PAUSE_EVERY - 2:
            continue
        stop = min(start + length, samples)
        voice[start:stop] += _syllable(length, random)[: stop - start]
    return voice


def _syllable(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    time_s = np.arange(length) / SAMPLE_RATE
    pitch_hz = random.uniform(95.0, 150.0) * (1.0 - 0.15 * time_s / _SYLLABLE_S)
    phase = 2.0 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    first, last = random.choice(len(_FORMANTS), 2, replace=False)
    glide = time_s / _SYLLABLE_S
    formants = np.outer(_FORMANTS[first], 1.0 - glide) + np.outer(_FORMANTS[last], glide)
    vowel = np.zeros(length)
    for harmonic in range(1, 40):
        frequency = harmonic * pitch_hz
        vowel += _formant_gain(frequency, formants) / harmonic * np.sin(harmonic * phase)
    hiss = np.diff(random.normal(0.0, 1.0, length + 1))
    hiss *= np.exp(-(((time_s - 0.02) / 0.02) ** 2)) * 0.05
    envelope = np.sin(np.pi * np.clip(glide, 0.0, 1.0)) ** 0.7
    return vowel * envelope + hiss


def _formant_gain(frequency: NDArray[np.float64], formants: NDArray[np.float64]) -> NDArray[np.float64]:
    gain = np.zeros_like(frequency)
    for centre, strength, width in zip(formants, _FORMANT_GAINS, _FORMANT_WIDTHS, strict=True):
        gain += strength / (1.0 + ((frequency - centre) / width) ** 2)
    return gain


def _rumble(samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Generate noise that falls by 3 dB per octave, like room noise, at an RMS of 1."""
    spectrum = np.fft.rfft(random.normal(0.0, 1.0, samples))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 1.0))
    noise = np.fft.irfft(spectrum, samples)
    return noise / float(np.sqrt(np.mean(noise**2)))


FRAME_RATE: Final = Fraction(25)

# PyAV converts RGB to BT.601, which is 6 for all three codes of H.273.
_SMPTE_170M: Final = 6
_CRF: Final = "27"
_AUDIO_BLOCK: Final = 1024


def write_clip(path: Path, *, seconds_per_scene: int = 3) -> None:
    """Write the clip as MP4: H.264 and AAC, a title and one chapter for each scene.

    Raises:
        OptionError: scikit-image, which contains the photographs, is not installed.
    """
    if find_spec("skimage") is None:
        raise OptionError("the sample clip needs photographs from scikit-image: pip install 'relume[sample]'")
    frames_per_scene = int(seconds_per_scene * FRAME_RATE)
    partial = path.with_name(f".{path.name}.part")
    with av.open(str(partial), "w", format="mp4") as container:
        container.metadata["title"] = "Relume sample"
        _write_chapters(container, seconds_per_scene)
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.colorspace = video.color_primaries = video.color_trc = _SMPTE_170M
        video.color_range = ColorRange.MPEG
        video.options = {"crf": _CRF, "preset": "fast"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = 64000
        for pixels in render_frames(frames_per_scene):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        track = make_audio(len(SCENES) * seconds_per_scene * SAMPLE_RATE)
        for start in range(0, track.size, _AUDIO_BLOCK):
            block = np.ascontiguousarray(track[np.newaxis, start : start + _AUDIO_BLOCK])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    partial.replace(path)


def _write_chapters(container: OutputContainer, seconds_per_scene: int) -> None:
    container.set_chapters(
        [
            {
                "id": number,
                "start": number * seconds_per_scene,
                "end": (number + 1) * seconds_per_scene,
                "time_base": Fraction(1),
                "metadata": {"title": scene.photograph},
            }
            for number, scene in enumerate(SCENES)
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.sample_clip FILE.mp4")
    write_clip(Path(sys.argv[1]))
