import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import OutputContainer

from .warm import WarmCommand

ROOT = Path(__file__).resolve().parents[2]
Relume = Callable[..., subprocess.CompletedProcess[str]]


def _start(data: Path, *arguments: object, **options: object) -> subprocess.Popen[str]:
    program = "from appliance.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What was measured on this machine must not decide what the tests run on.
        env={**os.environ, "PYTHONPATH": str(ROOT), "RELUME_DATA": str(data)},
        **options,
    )


@pytest.fixture(scope="session")
def start_relume(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in a process of its own, as a user does."""
    return partial(_start, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def relume(
    start_relume: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Relume]:
    """Run the command in a process of its own and wait for its end."""
    command = WarmCommand(tmp_path_factory.mktemp("warm"))
    environment = {"PYTHONPATH": str(ROOT), "RELUME_DATA": str(tmp_path_factory.mktemp("data"))}

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        if not options:
            words = [str(argument) for argument in arguments]
            return command.run(words, {**os.environ, **environment}, timeout_s=300)
        with start_relume(*arguments, **options) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    yield run
    command.close()


def _write_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sound: bool = True,
) -> Path:
    """Write moving stripes with a tone beside them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=Fraction(25))
        video.width, video.height, video.pix_fmt = *size, pixel_format
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        columns = np.arange(size[0])
        for number in range(frames):
            stripe = (128 + 100 * np.sin((columns + 2 * number) / 5)).astype(np.uint8)
            pixels = np.broadcast_to(stripe[None, :, None], (size[1], size[0], 3)).copy()
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            _write_tone(container, audio, samples=frames * 1920)
    return path


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """Return the function that writes a small clip of moving stripes and a tone."""
    return _write_clip


def _write_tone(container: OutputContainer, audio: av.AudioStream, samples: int) -> None:
    tone = (0.2 * np.sin(np.arange(samples) * 2 * np.pi * 440 / 48000)).astype(np.float32)
    for start in range(0, samples, 1024):
        block = np.ascontiguousarray(tone[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


@pytest.fixture(scope="session")
def clip_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()


@pytest.fixture
def clip(tmp_path: Path, clip_bytes: bytes) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_bytes)
    return path
