"""Whole jobs over the beginning of the project's real clips, where they are available."""

from fractions import Fraction
from pathlib import Path

import av
import pytest

from runtime.enhance import enhance
from runtime.options import EnhanceOptions

FOLDER = next((p / "shared/media/video" for p in Path(__file__).parents if (p / "shared/media/video").is_dir()), None)
CLIPS = sorted(FOLDER.glob("*.m*")) if FOLDER else []
END = Fraction(1, 5)


def read_times(path, *, before):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = []
        for frame in container.decode(stream):
            time = frame.pts * stream.time_base
            if time >= before:
                break
            times.append(time)
        return times


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS, reason="the real clips are not here")
@pytest.mark.parametrize("source", CLIPS, ids=lambda path: path.name)
def test_every_frame_and_sample_of_a_job_comes_out_at_its_time(source, tmp_path):
    target = tmp_path / f"result{source.suffix}"

    report = enhance(source, target, EnhanceOptions(preset="restore", end=END))

    expected, found = read_times(source, before=END), read_times(target, before=10**9)
    tick = Fraction(1, 1000) if source.suffix == ".mkv" else 0
    assert len(found) == len(expected)
    assert all(abs(one - other) <= tick for one, other in zip(expected, found, strict=True))
    assert report.picture.pts_equal
    assert report.picture.frames_in == report.picture.frames_out == len(expected)
    assert all(audio.samples_in == audio.samples_out for audio in report.sound)
    assert all(offset.before == offset.after for offset in report.av_offsets)
