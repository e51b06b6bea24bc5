import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.enhance import enhance
from runtime.errors import CancelledError, OptionError
from runtime.options import EnhanceOptions
from runtime.presets import resolve_preset
from runtime.progress import Progress
from runtime.resume.writer import SegmentRule
from runtime.video.degradation import estimate_noise
from tests import media


def noisy(count: int) -> Iterator[NDArray[np.uint8]]:
    random = np.random.default_rng(4)
    scene = np.kron(random.integers(60, 190, (8, 20, 3)), np.ones((18, 18, 1)))
    for number in range(count):
        yield np.clip(scene[:, number : number + 192] + random.normal(0, 7, (144, 192, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "clip.mkv", noisy(12), codec="ffv1")


def lumas(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as container:
        planes = [frame.reformat(format="yuv444p16").to_ndarray()[0] for frame in container.decode(video=0)]
    return np.stack(planes).astype(np.float32) / 65_535


def test_the_removed_noise_comes_back_as_far_as_asked(clip: Path, tmp_path: Path) -> None:
    planes = {}
    for grain in (0.0, 0.5, 1.0):
        report = enhance(clip, tmp_path / f"{grain}.mkv", EnhanceOptions("archive", grain=grain))
        planes[grain] = lumas(tmp_path / f"{grain}.mkv")
        assert report.picture is not None
        assert report.picture.grain == grain

    half, whole = (float((planes[grain] - planes[0.0]).std()) for grain in (0.5, 1.0))
    removed = [
        max(0.0, estimate_noise(before) ** 2 - estimate_noise(after) ** 2) ** 0.5
        for before, after in zip(lumas(clip), planes[0.0], strict=True)
    ]
    assert half == pytest.approx(whole / 2, rel=0.1)
    # In tones between black and white it is somewhat weaker than in the middle.
    assert 0.7 * np.mean(removed) < whole < 1.1 * np.mean(removed)


def test_only_the_archive_has_grain_of_its_own() -> None:
    presets = ("upscale", "restore", "surveillance", "archive", "studio")
    assert [resolve_preset(EnhanceOptions(name)).grain for name in presets] == [0.0, 0.0, 0.0, 0.5, 0.0]
    assert resolve_preset(EnhanceOptions("archive", grain=0.0)).grain == 0.0


@pytest.mark.parametrize("grain", [-0.1, 1.5, float("nan")])
def test_grain_outside_its_range_is_refused(clip: Path, grain: float) -> None:
    with pytest.raises(OptionError, match="grain is"):
        enhance(clip, None, EnhanceOptions(grain=grain))


def test_grain_is_refused_where_the_video_is_copied(clip: Path) -> None:
    with pytest.raises(OptionError, match="--grain"):
        enhance(clip, None, EnhanceOptions("sound-only", grain=0.5))


def test_a_resumed_job_has_the_same_grain(clip: Path, tmp_path: Path) -> None:
    options = EnhanceOptions("archive", grain=1.0, threads=1)
    rule = SegmentRule(4, 4)
    enhance(clip, tmp_path / "whole.mkv", options, workspace=tmp_path / "one", rule=rule)
    cancel, stops = threading.Event(), []

    def stop_at_nine(progress: Progress) -> None:
        if progress.frames_done >= 9:
            cancel.set()

    for attempt in range(2):
        try:
            enhance(
                clip, tmp_path / "resumed.mkv", options, workspace=tmp_path / "two", rule=rule, cancel=cancel,
                on_progress=stop_at_nine if attempt == 0 else None,
            )  # fmt: skip
        except CancelledError:
            stops.append(True)
            cancel.clear()

    assert stops == [True]
    assert (lumas(tmp_path / "resumed.mkv") == lumas(tmp_path / "whole.mkv")).all()
