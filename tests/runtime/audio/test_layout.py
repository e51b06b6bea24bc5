import numpy as np
import pytest

from runtime.audio.speech_enhancer import find_speech


@pytest.mark.parametrize(
    ("layout", "channels", "kind", "first"),
    [
        ("mono", 1, "single", 0),
        ("stereo", 2, "mid-side", 0),
        ("2.1", 3, "mid-side", 0),
        ("3.0", 3, "single", 2),
        ("quad", 4, "mid-side", 0),
        ("5.1", 6, "single", 2),
        ("5.1(side)", 6, "single", 2),
        ("7.1(wide)", 8, "single", 2),
        ("8 channels", 8, "mid-side", 0),
        ("", 2, "mid-side", 0),
    ],
)
def test_speech_is_found_in_every_layout(layout, channels, kind, first) -> None:
    speech = find_speech(layout, channels)
    assert (speech.kind, speech.first) == (kind, first)


def test_taking_all_of_the_targets_away_leaves_the_other_channels() -> None:
    block = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    speech = find_speech("2.1", 3)
    heard = block.copy()
    speech.add(heard, -speech.extract(block))
    np.testing.assert_allclose(heard[:2], 0, atol=1e-6)
    np.testing.assert_array_equal(heard[2], block[2])
