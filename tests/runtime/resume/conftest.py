"""A clip of three scenes, jobs in a workspace, and comparisons of their results."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.survive import read_packets
from tests import media

SCENES = (8, 15, 9)
RATE = 48_000


def write_scenes(
    path: Path,
    *,
    scenes: tuple[int, ...] = SCENES,
    times: list[int] | None = None,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    audio: bool = True,
    gop: int = 12,
    options: dict[str, str] | None = None,
) -> Path:
    """Write moving scenes of the given numbers of frames, at times in milliseconds, with noisy audio."""
    width, height = size
    noise = np.random.default_rng(5)
    frames: list[media.Pixels] = []
    for length in scenes:
        frames += media.pan(media.blocks(noise, height // 8, width // 8 + 8), length, width)
    samples = noise.normal(0, 0.05, (1, RATE * len(frames) // 25)).astype(np.float32)
    return media.write_clip(
        path,
        frames,
        codec=codec,
        options=options or {"crf": "12", "preset": "ultrafast"},
        times_ms=times or [40 * number for number in range(len(frames))],
        colour=(6, 1),
        gop=gop,
        audio=media.AudioTrack(samples) if audio else None,
    )


def digest_work(folder: Path) -> dict[str, str]:
    """Return the digests of the segments and audio tracks in a workspace."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "segments").glob("*.packets")
    }


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip of a name; see `write_scenes`."""
    return lambda name="in.mp4", **fields: write_scenes(tmp_path / name, **fields)


@pytest.fixture
def packets() -> Callable[[Path], list[tuple[Any, ...]]]:
    """Read every packet of a file."""
    return read_packets


@pytest.fixture
def keep_digests(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Record the digests of the work each time a workspace is cleared."""
    from runtime.resume.workspace import Workspace

    kept: list[dict[str, str]] = []
    clear = Workspace.clear

    def note(workspace: Workspace) -> None:
        kept.append(digest_work(workspace.folder.parent))
        clear(workspace)

    monkeypatch.setattr(Workspace, "clear", note)
    return kept


@pytest.fixture
def kill_points() -> Callable[..., list[dict[str, Any]]]:
    """Run `killing.py`: jobs in processes that kill themselves at chosen durable steps."""

    def run(source: Path, folder: Path, *plan: str) -> list[dict[str, Any]]:
        script = Path(__file__).with_name("killing.py")
        root = Path(__file__).parents[3]
        environment = os.environ | {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(script), str(source), str(folder), *plan],
            capture_output=True, text=True, timeout=900, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run
