"""Networks that look ahead: a job that was stopped while frames waited in a window resumes with the same bits."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.enhance import enhance
from runtime.errors import CancelledError
from runtime.manifest import Model
from runtime.options import AudioMode, EnhanceOptions
from runtime.report import Report
from runtime.resume.writer import SegmentRule

RULE = SegmentRule(5, 10)
KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.enhance import enhance
from runtime.options import AudioMode, EnhanceOptions
from runtime.resume.writer import SegmentRule

source, target, zoo, name, work, last = sys.argv[1:]
def watch(progress):
    if progress.frames_done >= int(last):
        os.kill(os.getpid(), signal.SIGKILL)
options = EnhanceOptions(threads=2, audio=AudioMode.OFF, model=name, zoo=Path(zoo))
enhance(Path(source), Path(target), options, workspace=Path(work), rule=SegmentRule(5, 10), on_progress=watch)
"""


def run(source: Path, target: Path, model: Model, work: Path, *, stop_at: int | None = None) -> Report | None:
    """Run an attempt; with `stop_at` it is cancelled after so many frames and returns None."""
    cancel = threading.Event()

    def watch(progress: Any) -> None:
        if stop_at is not None and progress.frames_done >= stop_at:
            cancel.set()

    options = EnhanceOptions(threads=2, audio=AudioMode.OFF, model=model.manifest.name, zoo=model.folder.parent)
    try:
        return enhance(source, target, options, workspace=work, rule=RULE, cancel=cancel, on_progress=watch)
    except CancelledError:
        assert stop_at is not None
        return None


@pytest.fixture(params=["window", "short window", "chain"])
def model(request: pytest.FixtureRequest, clip_model: Callable[..., Model], chain_model: Callable[..., Model]) -> Model:
    """Return a model of each kind; a window of six frames is longer than the shortest segment."""
    if request.param == "chain":
        return chain_model(frames=4, overlap=2, passes=2)
    return clip_model(frames=6, overlap=2) if request.param == "window" else clip_model(frames=2, overlap=1)


@pytest.mark.parametrize("stop", [13, 25])
def test_a_job_that_was_cancelled_continues_with_the_same_bits(
    clip: Callable[..., Path], model: Model, tmp_path: Path, stop: int, keep_digests: list[dict[str, str]]
) -> None:
    source = clip(scenes=(24, 6), audio=False)
    alone = run(source, tmp_path / "alone.mp4", model, tmp_path / "alone")

    assert run(source, tmp_path / "stopped.mp4", model, tmp_path / "stopped", stop_at=stop) is None
    stopped = run(source, tmp_path / "stopped.mp4", model, tmp_path / "stopped")

    assert alone is not None
    assert stopped is not None
    assert alone.picture is not None
    assert alone.picture.scene_cuts == (24,)
    assert alone.picture.pts_equal
    assert alone.picture.frames_out == 30
    assert len(keep_digests[0]) == 3, "segments of 10, 14 and 6 pictures or so; the first join lies inside a scene"
    assert keep_digests[0] == keep_digests[1]
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "stopped.mp4").read_bytes()
    assert stopped.resumes == 1
    assert stopped.picture == alone.picture
    assert stopped.warnings == alone.warnings


def test_a_job_that_was_killed_continues_with_the_same_bits(
    clip: Callable[..., Path], clip_model: Callable[..., Model], tmp_path: Path
) -> None:
    source, model = clip(scenes=(30,), audio=False), clip_model(frames=6, overlap=2)
    run(source, tmp_path / "alone.mp4", model, tmp_path / "alone")
    zoo, name = str(model.folder.parent), model.manifest.name
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "killed.mp4"), zoo, name]

    done = subprocess.run(
        [*command, str(tmp_path / "killed"), "14"], capture_output=True, text=True, timeout=120, check=False
    )
    killed = run(source, tmp_path / "killed.mp4", model, tmp_path / "killed")

    assert done.returncode == -9, done.stderr
    assert killed is not None
    assert killed.resumes == 1
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "killed.mp4").read_bytes()


def test_a_failed_tile_is_reported_once_although_its_frame_is_recreated(
    clip: Callable[..., Path], clip_model: Callable[..., Model], tmp_path: Path
) -> None:
    source, model = clip(scenes=(24,), audio=False), clip_model(frames=4, overlap=1, limit=0.5)
    alone = run(source, tmp_path / "alone.mp4", model, tmp_path / "alone")

    assert run(source, tmp_path / "stopped.mp4", model, tmp_path / "stopped", stop_at=13) is None
    stopped = run(source, tmp_path / "stopped.mp4", model, tmp_path / "stopped")

    assert alone is not None
    assert stopped is not None
    assert alone.picture is not None
    assert stopped.picture == alone.picture
    resets = alone.picture.state_resets
    assert len(resets) == len(set(resets)) == 24 * alone.picture.tiling.tiles_per_frame  # type: ignore[union-attr]
    assert not any(reset.cured for reset in resets)
