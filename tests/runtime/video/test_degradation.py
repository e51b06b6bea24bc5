"""The descriptor distinguishes noise, coding loss and blur; noise is measured next to edges; both at any size."""

import numpy as np
import pytest

from runtime.video.degradation import DESCRIPTORS, MAX_NOISE, describe_degradation, estimate_noise

MEDIAN, MEAN, AXIAL, ZEROS = range(4)


def scene(height=240, width=320):
    """Return a plane with edges and texture of many scales."""
    rng = np.random.default_rng(3)
    plane = sum(np.kron(rng.random((height // k, width // k)), np.ones((k, k))) * k for k in (1, 2, 4, 8, 16)) / 31
    return plane.astype(np.float32)


def blurred(plane):
    taps = np.array([1, 4, 6, 4, 1]) / 16
    for axis in (0, 1):
        plane = np.apply_along_axis(lambda line: np.convolve(np.pad(line, 2, "edge"), taps, "valid"), axis, plane)
    return plane.astype(np.float32)


def test_noise_raises_the_finest_coefficients():
    plane = scene()
    noisy = plane + np.random.default_rng(4).normal(0, 0.05, plane.shape).astype(np.float32)

    clean, found = describe_degradation(plane), describe_degradation(noisy)

    assert found.shape == (DESCRIPTORS,)
    assert found.dtype == np.float32
    assert found[MEDIAN] > clean[MEDIAN] + 0.05


def test_blur_lowers_the_diagonal_coefficients_most():
    clean, found = describe_degradation(scene()), describe_degradation(blurred(scene()))

    assert found[MEAN] < clean[MEAN] - 0.3
    assert found[MEAN] - found[AXIAL] < clean[MEAN] - clean[AXIAL] - 0.3


def test_a_codec_that_drops_coefficients_is_seen_by_their_share_of_zeros():
    plane = scene()
    blocks = plane.reshape(60, 4, 80, 4).mean(axis=(1, 3))

    found = describe_degradation(np.kron(blocks, np.ones((4, 4))).astype(np.float32))

    assert found[ZEROS] == 1
    assert describe_degradation(plane)[ZEROS] < 0


@pytest.mark.parametrize("shape", [(5, 7), (16, 16), (33, 4)])
def test_flat_and_small_frames_are_described(shape):
    assert np.isfinite(describe_degradation(np.full(shape, 0.5, np.float32))).all()


def test_a_high_frame_is_described_from_bands_spread_over_it():
    plane = scene(1088, 320)

    bands, whole = describe_degradation(plane), np.mean([describe_degradation(p) for p in np.split(plane, 4)], axis=0)

    np.testing.assert_allclose(bands, whole, atol=0.05)


@pytest.mark.parametrize("sigma", [0.0, 5 / 255, 25 / 255])
@pytest.mark.parametrize("crop", [(128, 128), (127, 101)])
def test_noise_is_measured_next_to_edges(sigma, crop):
    rng = np.random.default_rng(1)
    edges = np.kron(rng.random((8, 8)), np.ones((16, 16)))
    noisy = (edges + rng.normal(0, sigma, edges.shape)).astype(np.float32)[: crop[0], : crop[1]]

    assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.1, abs=1e-4)


def test_noise_beyond_what_networks_know_is_limited():
    assert estimate_noise(np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32)) == MAX_NOISE
