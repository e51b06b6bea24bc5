"""Noise is measured beside edges, at odd sizes too."""

import numpy as np
import pytest

from runtime.video.fallback import MOST, estimate_noise


@pytest.mark.parametrize("sigma", [0.0, 5 / 255, 25 / 255])
@pytest.mark.parametrize("crop", [(128, 128), (127, 101)])
def test_noise_is_measured_beside_edges(sigma, crop):
    rng = np.random.default_rng(1)
    edges = np.kron(rng.random((8, 8)), np.ones((16, 16)))
    noisy = (edges + rng.normal(0, sigma, edges.shape)).astype(np.float32)[: crop[0], : crop[1]]

    assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.1, abs=1e-4)


def test_more_than_networks_know_is_told_as_the_most():
    assert estimate_noise(np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32)) == MOST
