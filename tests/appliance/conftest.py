import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import media

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
        # Measurements of this machine must not decide which backends the tests use.
        env={**os.environ, "PYTHONPATH": str(ROOT), "RELUME_DATA": str(data)},
        **options,
    )


@pytest.fixture(scope="session")
def start_relume(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in a separate process, as a user does."""
    return partial(_start, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def relume(
    start_relume: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Relume]:
    """Run the command in a separate process and wait for its end."""
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
    audio: bool = True,
) -> Path:
    """Write moving stripes with a tone as audio."""
    return media.write_clip(
        path,
        media.stripes(frames, *size),
        codec=codec,
        pixel_format=pixel_format,
        audio=media.AudioTrack(media.tone(frames * 1920)) if audio else None,
    )


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """Return a function that writes a small clip of moving stripes and a tone."""
    return _write_clip


@pytest.fixture(scope="session")
def clip_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()


@pytest.fixture
def clip(tmp_path: Path, clip_bytes: bytes) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_bytes)
    return path
