"""Degradation has the requested strength and depends on its seed only."""

import numpy as np
import pytest
import torch
from PIL import Image

from training.degrade import Degradation, compress, degrade, shrink, walk


@pytest.fixture
def gt():
    y, x = np.mgrid[:64, :96]
    frames = [np.stack([np.sin((x + 3 * k) / 5), np.cos(y / 4), np.sin((x + y) / 7)]) * 0.4 + 0.5 for k in range(5)]
    return torch.from_numpy(np.stack(frames)).float()


def psnr(one, other):
    return float(-10 * (one - other).square().mean().log10())


def test_shrinking_is_the_bicubic_of_the_literature(gt):
    frame = gt[0, 0].numpy()
    expected = np.asarray(Image.fromarray(frame).resize((24, 16), Image.Resampling.BICUBIC))

    found = shrink(gt, 4)[0, 0].numpy()

    assert np.abs(found - expected).max() < 1.1 / 255


def test_a_clean_share_of_one_only_shrinks(gt):
    result = degrade(gt, 2, Degradation(clean_share=1.0), np.random.default_rng(0))

    torch.testing.assert_close(result, shrink(gt, 2))


def test_the_same_seed_degrades_the_same_way(gt):
    ranges = Degradation(clean_share=0.0)

    one, other = (degrade(gt, 2, ranges, np.random.default_rng(9)) for _ in range(2))

    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert one.shape == (5, 3, 32, 48)
    assert psnr(one, shrink(gt, 2)) < 45


def test_noise_has_the_requested_strength():
    grey = torch.full((4, 3, 64, 64), 0.5)
    ranges = Degradation(clean_share=0, blur_share=0, noise_share=1, noise_sigma=(12.0, 12.0), compress_share=0)

    result = degrade(grey, 1, ranges, np.random.default_rng(1))

    assert float(result.std()) * 255 == pytest.approx(12, rel=0.15)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_higher_crf_is_worse_and_no_frame_is_lost(gt, codec):
    fine, coarse = compress(gt, 16, codec=codec), compress(gt, 42, codec=codec)

    assert fine.shape == coarse.shape == gt.shape
    assert psnr(fine, gt) > psnr(coarse, gt) + 3


def test_a_walk_drifts_within_its_bounds():
    steps = walk(np.random.default_rng(2), (3.0, 5.0), 500)

    assert steps.min() >= 3
    assert steps.max() <= 5
    assert 0 < np.abs(np.diff(steps)).mean() < 0.2
