from importlib.util import find_spec
from itertools import pairwise

import av
import numpy as np
import pytest

from benchmarks import sample_clip
from runtime.errors import OptionError

needs_photographs = pytest.mark.skipif(find_spec("skimage") is None, reason="scikit-image is not installed")


@needs_photographs
def test_the_clip_has_both_streams_a_title_and_a_chapter_for_each_scene(tmp_path):
    path = tmp_path / "sample.mp4"

    sample_clip.write_clip(path, seconds_per_scene=1)

    with av.open(str(path)) as container:
        assert container.metadata["title"] == "Relume sample"
        assert [entry["metadata"]["title"] for entry in container.chapters()] == [
            "coffee",
            "astronaut",
        ]
        frames = [(frame.width, frame.height) for frame in container.decode(video=0)]
        assert frames == [(320, 180)] * 50
        container.seek(0)
        samples = sum(frame.samples for frame in container.decode(audio=0))
        assert samples >= 2 * sample_clip.SAMPLE_RATE
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample.mp4"]


@needs_photographs
def test_scenes_move_and_are_cut():
    frames = [frame.astype(np.int16) for frame in sample_clip.render_frames(10)]

    steps = [np.abs(a - b).mean() for a, b in pairwise(frames)]
    within = steps[:9] + steps[10:]
    assert min(within) > 2.0
    assert steps[9] > 2 * max(within)


def test_without_photographs_the_remedy_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(sample_clip, "find_spec", lambda _: None)

    with pytest.raises(OptionError, match=r"pip install 'relume\[sample\]'"):
        sample_clip.write_clip(tmp_path / "sample.mp4")

    assert list(tmp_path.iterdir()) == []


def test_the_voice_pauses_and_the_noise_does_not():
    samples = sample_clip.make_audio(7 * 11520)

    level = np.sqrt((samples.reshape(7, 11520) ** 2).mean(axis=1))
    assert samples.dtype == np.float32
    assert np.abs(samples).max() == pytest.approx(0.5)
    assert level[:5].min() > 1.5 * level[5:].max()
    assert level[5:].min() > 0.01


def test_the_audio_is_the_same_every_time():
    assert np.array_equal(sample_clip.make_audio(1000), sample_clip.make_audio(1000))
