"""Measures are those of the literature, and degradation is repeatable."""

import numpy as np
import pytest

from benchmarks.video_quality import ssim
from calibration.quality import KINDS, TestDegradation, degrade_clip, luma, psnr


@pytest.fixture
def frame():
    y, x = np.mgrid[:96, :128]
    waves = [np.sin(x / 5), np.cos(y / 6), np.sin((x + y) / 8)]
    return (np.stack(waves, -1) * 80 + 128).astype(np.uint8)


def test_luma_runs_from_16_to_235():
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)

    assert luma(black).mean() == pytest.approx(16)
    assert luma(white).mean() == pytest.approx(235)


def test_psnr_of_a_known_error(frame):
    darker = (frame - 10).astype(np.uint8)

    error = 10 / 255 * 219
    assert psnr(darker, frame) == pytest.approx(20 * np.log10(255 / error), abs=0.01)


def test_ssim_is_one_for_the_same_and_less_for_noise(frame):
    noisy = np.clip(frame + np.random.default_rng(0).normal(0, 20, frame.shape), 0, 255).astype(np.uint8)

    assert ssim(frame, frame) == pytest.approx(1)
    assert ssim(noisy, frame) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_degradation_is_repeatable_and_downscales(frame, kind):
    one, other = (degrade_clip([frame] * 3, TestDegradation(kind), scale=2) for _ in range(2))

    assert one[0].shape == (48, 64, 3)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert np.array_equal(one[0], degrade_clip([frame], TestDegradation(), scale=2)[0]) == (kind == "bicubic")


def test_a_kind_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="got kind 'dark', expected one of bicubic, blurred, noisy, degraded"):
        TestDegradation("dark")
