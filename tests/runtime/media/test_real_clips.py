"""Pass-through jobs over the project's real clips, where they are available."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.media.probe import probe

FOLDER = next((p / "shared/media/video" for p in Path(__file__).parents if (p / "shared/media/video").is_dir()), None)
CLIPS = sorted(FOLDER.glob("*.m*")) if FOLDER else []
LARGEST = 1280 * 1080


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS, reason="the real clips are not here")
@pytest.mark.parametrize("source", CLIPS, ids=lambda path: path.name)
def test_every_frame_and_sample_comes_out_at_its_time(
    source: Path,
    tmp_path: Path,
    job: Callable[..., Any],
    times: Callable[[Path], Any],
) -> None:
    video = probe(source).video
    assert video is not None
    if video.width * video.height > LARGEST and (video.frames or 0) > 60:
        pytest.skip(f"{source.name} takes minutes")

    result = job(source, f"result{source.suffix}")

    assert times(source) == times(tmp_path / f"result{source.suffix}")
    assert result.verification.passed, result.verification
