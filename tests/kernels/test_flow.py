"""The flow finds known motion."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from kernels.errors import DtypeError, ShapeError
from kernels.flow import estimate_flow


def texture(height, width, seed=6):
    noise = np.random.default_rng(seed).standard_normal((height, width))
    plane = gaussian_filter(noise, 1.2) + 3 * gaussian_filter(noise, 4)
    plane = (plane - plane.min()) / (plane.max() - plane.min())
    return plane.astype(np.float32)


@pytest.mark.parametrize(("u", "v"), [(0, 0), (1.5, -0.75), (-6.25, 3.5), (14, -9)])
def test_a_shift_is_found_to_a_tenth_of_a_pixel(u, v):
    wide = texture(180, 240)
    y, x = np.mgrid[40:140, 50:190].astype(np.float64)
    previous = wide[40:140, 50:190]
    frame = map_coordinates(wide, [y + v, x + u], order=3).astype(np.float32)

    flow = estimate_flow(frame, np.ascontiguousarray(previous))

    inner = flow[:, 20:-20, 20:-20]
    assert np.abs(np.median(inner[0]) - u) < 0.1
    assert np.abs(np.median(inner[1]) - v) < 0.1
    assert np.mean(np.hypot(inner[0] - u, inner[1] - v) < 0.5) > 0.97


def test_two_motions_are_both_found():
    wide = texture(140, 300)
    previous = wide[20:120, 40:240].copy()
    frame = previous.copy()
    frame[:, :100] = wide[20:120, 44:144]
    frame[:, 100:] = wide[17:117, 140:240]

    flow = estimate_flow(frame, previous)

    assert np.median(flow[0, 20:-20, 20:80]) == pytest.approx(4, abs=0.15)
    assert np.median(flow[1, 20:-20, 120:180]) == pytest.approx(-3, abs=0.15)


def test_noise_alone_moves_nothing():
    rng = np.random.default_rng(7)
    plane = texture(90, 120)
    frame = (plane + rng.normal(0, 4 / 255, plane.shape)).astype(np.float32)
    previous = (plane + rng.normal(0, 4 / 255, plane.shape)).astype(np.float32)

    flow = estimate_flow(frame, previous)

    assert np.mean(np.hypot(*flow) < 0.5) > 0.95


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (7, 5), (16, 16), (33, 47)])
def test_any_size_gives_a_finite_flow_of_that_size(height, width):
    rng = np.random.default_rng(8)

    flow = estimate_flow(rng.random((height, width), np.float32), rng.random((height, width), np.float32))

    assert flow.shape == (2, height, width)
    assert np.isfinite(flow).all()


def test_black_frames_give_no_motion():
    black = np.zeros((40, 60), np.float32)

    assert not estimate_flow(black, black).any()


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(ShapeError, match="expected two planes of one size"):
        estimate_flow(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.float32))


def test_bytes_are_refused():
    with pytest.raises(DtypeError, match="expected float32 luma"):
        estimate_flow(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))


_DIGEST = """
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from kernels.colour import YuvLayout, rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.flow import estimate_flow
from kernels.warp import warp

pattern = np.kron(np.random.default_rng(1).random((40, 60)), np.ones((4, 4))).astype(np.float32)
frame, previous = (np.ascontiguousarray(pattern[k : k + 120, 2 * k : 2 * k + 200]) for k in (0, 1))
flow = estimate_flow(frame, previous)
layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")
planes = rgb_to_yuv(np.stack([frame, previous, frame]), layout)
rgb = yuv_to_rgb(planes, layout)
digest = hashlib.sha256()
for array in (flow, warp(np.stack([frame, previous]), flow), *planes, rgb, rgb_to_luma(rgb, 2)):
    digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_a_process_that_compiles_computes_the_same_bits_as_one_that_loads(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", _DIGEST]

    compiling, loading = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )

    assert compiling == loading
