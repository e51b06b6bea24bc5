import json
from pathlib import Path

import numpy as np
import pytest

from appliance.probe import examine, show_examination
from runtime.advice import Advice, advise
from runtime.media.probe import probe
from tests import media

LOSSLESS = {"crf": "0", "preset": "ultrafast"}


def scene(count: int, width: int, height: int, *, noise: float = 0.0, brightness: float = 1.0, seed: int = 0):
    """Yield a pan over smooth shapes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, : width + count]
    plane = 110 + 60 * np.sin(x / 23) * np.cos(y / 17) + 40 * np.sin((x + 2 * y) / 61)
    for number in range(count):
        pixels = np.repeat(plane[:, number : number + width, None], 3, axis=2) * brightness
        yield np.clip(pixels + random.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)


def advice(path: Path) -> Advice:
    return advise(probe(path))


def codes(found: Advice) -> list[str]:
    return [one.code for one in found.findings]


def test_a_clean_large_video_needs_nothing(tmp_path: Path) -> None:
    path = media.write_clip(tmp_path / "a.mp4", scene(4, 960, 720), options={"crf": "12", "preset": "fast"})

    found = advice(path)

    assert (codes(found), found.preset) == ([], None)


@pytest.mark.parametrize(
    ("size", "noise", "brightness", "expected", "preset"),
    [
        ((320, 240), 0.0, 1.0, ["small"], "upscale"),
        ((960, 720), 8.0, 1.0, ["noisy"], "restore"),
        ((320, 240), 8.0, 0.2, ["noisy", "dark", "small"], "surveillance"),
    ],
)
def test_noise_darkness_and_size_are_found(
    tmp_path: Path, size: tuple[int, int], noise: float, brightness: float, expected: list[str], preset: str
) -> None:
    frames = scene(4, *size, noise=noise, brightness=brightness)
    found = advice(media.write_clip(tmp_path / "a.mkv", frames, options=LOSSLESS))

    assert codes(found) == expected
    assert found.preset == preset
    assert found.reason


def test_blocks_of_strong_compression_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    texture = np.kron(random.integers(60, 190, (90, 170, 1)), np.ones((8, 8, 3)))
    frames = list(media.pan(texture + random.normal(0, 6, texture.shape), 4, 1280))
    path = media.write_clip(tmp_path / "a.avi", frames, codec="mpeg4", options={"qscale": "31", "flags": "qscale"})

    found = advice(path)

    assert "blocky" in codes(found)
    assert found.preset == "restore"


def speech(seconds: float = 6.0, *, level: float = 0.1, floor: float = 1e-4) -> np.ndarray:
    """Generate bursts of gliding harmonics over a quiet floor, (1, samples) at 48 kHz."""
    random = np.random.default_rng(2)
    time = np.arange(round(48_000 * seconds)) / 48_000
    phase = 2 * np.pi * np.cumsum(140 * (1 + 0.25 * np.sin(2 * np.pi * 1.3 * time))) / 48_000
    tone = sum(np.sin(number * phase) / number for number in range(1, 12))
    bursts = np.sin(2 * np.pi * 2.1 * time) > 0
    return (level * tone * bursts + floor * random.standard_normal(len(time))).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("samples", "expected", "preset"),
    [
        (speech(), [], None),
        (speech(floor=0.02), ["background"], "sound-only"),
        (speech(level=0.01, floor=1e-5), ["quiet"], "speech"),
        (np.clip(speech(level=0.3), -0.25, 0.25), ["clipped"], "speech"),
        (np.zeros((1, 96_000), np.float32), ["silent"], None),
    ],
    ids=["clean", "noise", "quiet", "clipped", "silent"],
)
def test_faults_of_audio_are_found(
    tmp_path: Path, samples: np.ndarray, expected: list[str], preset: str | None
) -> None:
    track = media.AudioTrack((samples * 32767).astype(np.int16), codec="pcm_s16le")
    found = advice(media.write_audio(tmp_path / "a.wav", track))

    assert (codes(found), found.preset) == (expected, preset)


def test_the_command_shows_what_it_found(tmp_path: Path) -> None:
    path = media.write_clip(tmp_path / "a.mp4", scene(2, 160, 120), options=LOSSLESS)

    found = examine(path, advises=True)

    assert "preset  upscale: It removes noise" in show_examination(found, as_json=False)
    assert json.loads(show_examination(found, as_json=True))["advice"]["preset"] == "upscale"
