"""Motion and the ends of scenes are detected."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from runtime.manifest import find_model
from runtime.video.motion import MotionEstimator
from runtime.video.tile_plan import plan_canvas


@pytest.fixture
def canvas():
    return plan_canvas(128, 160, find_model("light-x4").manifest.video)


def scene(seed, *, contrast=1.0, level=0.5):
    plane = gaussian_filter(np.random.default_rng(seed).standard_normal((200, 260)), 3)
    plane = level + contrast * 0.25 * plane / plane.std()
    return np.stack([plane, plane, plane]).clip(0, 1).astype(np.float32)


def look(picture, step, noise=0.0, seed=0):
    rgb = picture[:, 20 + step : 148 + step, 30 + 2 * step : 190 + 2 * step]
    return (rgb + np.random.default_rng(seed).normal(0, noise, rgb.shape)).astype(np.float32)


def push_all(window, frames):
    return [window.push(frame, pts=index * 10, duration=10) for index, frame in enumerate(frames)]


def test_the_first_frame_has_no_motion_and_the_others_have(canvas):
    picture = scene(1)

    frames = push_all(MotionEstimator(canvas, aligned=True), [look(picture, step) for step in range(3)])

    assert frames[0].flow is None
    assert np.median(frames[1].flow[0]) == pytest.approx(2, abs=0.2)
    assert np.median(frames[1].flow[1]) == pytest.approx(1, abs=0.2)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.pts for frame in frames] == [0, 10, 20]


@pytest.mark.parametrize(("contrast", "level"), [(1.0, 0.5), (0.4, 0.15)])
def test_a_cut_is_seen_where_it_is_and_nowhere_else(canvas, contrast, level):
    one, other = scene(2, contrast=contrast, level=level), scene(3, contrast=contrast, level=level)
    window = MotionEstimator(canvas, aligned=True)

    frames = push_all(window, [look(one, k) for k in range(5)] + [look(other, k) for k in range(5)])

    assert window.scene_cuts == [5]
    assert frames[5].flow is None
    assert frames[6].flow is not None


def test_noise_on_a_flat_frame_is_not_a_cut(canvas):
    flat = np.full((3, 200, 260), 0.2, np.float32)
    window = MotionEstimator(canvas, aligned=True)

    push_all(window, [look(flat, 0, noise=25 / 255, seed=k) for k in range(6)])

    assert window.scene_cuts == []


@pytest.mark.parametrize("aligned", [True, False])
def test_a_fast_pan_is_not_a_cut(canvas, aligned):
    picture = scene(4)
    window = MotionEstimator(canvas, aligned=aligned)

    push_all(window, [look(picture, 5 * step) for step in range(6)])

    assert window.scene_cuts == []


def test_without_flow_a_cut_is_seen_and_no_motion_is_reported(canvas):
    window = MotionEstimator(canvas, aligned=False)

    frames = push_all(window, [look(scene(2), k) for k in range(3)] + [look(scene(3), k) for k in range(3)])

    assert window.scene_cuts == [3]
    assert [frame.flow is None for frame in frames] == [True, False, False, True, False, False]
    assert not frames[1].flow.any()
