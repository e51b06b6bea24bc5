"""Flow kernels emulated on a CPU, against the flow of the CPU and against known motion."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from kernels.cuda.flow import FlowEstimator, estimate_flow
from kernels.errors import DeviceError, DtypeError, LayoutError, ShapeError
from kernels.flow import estimate_flow as estimate_flow_on_cpu


def texture(height, width, seed=6):
    noise = np.random.default_rng(seed).standard_normal((height, width))
    plane = gaussian_filter(noise, 1.2) + 3 * gaussian_filter(noise, 4)
    plane = (plane - plane.min()) / (plane.max() - plane.min())
    return plane.astype(np.float32)


def shifted(u, v):
    wide = texture(180, 240)
    y, x = np.mgrid[40:140, 50:190].astype(np.float64)
    frame = map_coordinates(wide, [y + v, x + u], order=3).astype(np.float32)
    return frame, np.ascontiguousarray(wide[40:140, 50:190]), np.array([u, v], np.float32)[:, None, None]


def parted():
    wide = texture(140, 300)
    previous = wide[20:120, 40:240].copy()
    frame = previous.copy()
    frame[:, :100] = wide[20:120, 44:144]
    frame[:, 100:] = wide[17:117, 140:240]
    known = np.zeros((2, 100, 200), np.float32)
    known[0, :, :100], known[1, :, 100:] = 4, -3
    return frame, previous, known


def small_object():
    """A small square that moves far across a still background."""
    frame, previous = (texture(120, 160, 3) for _ in range(2))
    thing = texture(24, 24, 9)
    previous[40:64, 50:74], frame[52:76, 68:92] = thing, thing
    known = np.zeros((2, 120, 160), np.float32)
    known[0, 52:76, 68:92], known[1, 52:76, 68:92] = -18, -12
    return frame, previous, known


def rotation():
    wide = texture(160, 200, 4)
    y, x = np.mgrid[:160, :200].astype(np.float64)
    angle = 0.06
    u = np.cos(angle) * (x - 100) - np.sin(angle) * (y - 80) - (x - 100)
    v = np.sin(angle) * (x - 100) + np.cos(angle) * (y - 80) - (y - 80)
    frame = map_coordinates(wide, [y + v, x + u], order=3).astype(np.float32)
    return frame, wide, np.stack([u, v]).astype(np.float32)


def noisy():
    rng = np.random.default_rng(7)
    frame, previous, known = shifted(3.25, -1.5)
    noise = rng.normal(0, 4 / 255, (2, *frame.shape))
    return (frame + noise[0]).astype(np.float32), (previous + noise[1]).astype(np.float32), known


SCENES = {
    "still": lambda: shifted(0, 0), "sub-pixel": lambda: shifted(1.5, -0.75), "shift": lambda: shifted(-6.25, 3.5),
    "far": lambda: shifted(14, -9), "two motions": parted, "small object": small_object, "rotation": rotation,
    "noise": noisy,
}  # fmt: skip


def error(flow, known):
    inner = (slice(None), slice(16, -16), slice(16, -16))
    return float(np.hypot(*(flow - known)[inner]).mean())


QUICK = ("shift", "small object", "noise")


@pytest.mark.parametrize(
    "scene", [scene if scene in QUICK else pytest.param(scene, marks=pytest.mark.slow) for scene in SCENES]
)
def test_the_end_point_error_is_that_of_the_cpu_or_smaller(fake_cupy, scene):
    frame, previous, known = SCENES[scene]()

    flow = estimate_flow(fake_cupy.asarray(frame), fake_cupy.asarray(previous)).get()

    on_cpu = error(estimate_flow_on_cpu(frame, previous), known)
    print(f"{scene}: {error(flow, known):.4f} px, on the CPU {on_cpu:.4f}")
    assert error(flow, known) <= 1.05 * on_cpu + 0.001


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (7, 5), (16, 16), (33, 47)], ids=str)
def test_any_size_gives_a_finite_flow_of_that_size(fake_cupy, size):
    rng = np.random.default_rng(8)

    flow = estimate_flow(*(fake_cupy.asarray(rng.random(size, np.float32)) for _ in range(2)))

    assert flow.shape == (2, *size)
    assert np.isfinite(flow.get()).all()


def test_black_frames_give_no_motion(fake_cupy):
    black = fake_cupy.zeros((40, 60))

    assert not estimate_flow(black, black).get().any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_luma_that_is_not_finite_is_read_within_bounds_and_spoils_no_flow_far_away(fake_cupy, value):
    frame, previous = (texture(60, 90).copy() for _ in range(2))
    frame[10, 10] = value

    flow = estimate_flow(fake_cupy.asarray(frame), fake_cupy.asarray(previous)).get()

    assert np.isfinite(flow[:, 30:, 45:]).all()


def test_an_estimator_neither_allocates_nor_waits_and_can_be_captured(fake_cupy):
    frame, previous, _ = shifted(1.5, -0.75)
    first, second = fake_cupy.asarray(frame), fake_cupy.asarray(previous)
    expected = estimate_flow(first, second).get()
    estimator, out = FlowEstimator(*frame.shape), fake_cupy.zeros((2, *frame.shape))
    stream = fake_cupy.cuda.Stream(non_blocking=True)

    with stream:
        stream.begin_capture()
        estimator.estimate(first, second, out)
        graph = stream.end_capture()
        fake_cupy.log.clear()
        graph.launch()

    assert [event.kind for event in fake_cupy.log] == ["graph"]
    np.testing.assert_array_equal(out.get(), expected)


def test_arrays_that_do_not_fit_are_refused_before_a_launch(fake_cupy):
    plane = fake_cupy.zeros((40, 60))
    estimator = FlowEstimator(40, 60)
    fake_cupy.log.clear()

    with pytest.raises(ShapeError, match="expected two planes of one size"):
        estimate_flow(plane, plane[:, 1:])
    with pytest.raises(ShapeError, match="expected two planes of one size"):
        estimate_flow(plane[:0], plane[:0])
    with pytest.raises(LayoutError, match="copy it once"):
        estimate_flow(plane[:, 1:], plane[:, 1:])
    with pytest.raises(DtypeError, match="got frame of float16, expected float32"):
        estimate_flow(plane.astype(np.float16), plane)
    with pytest.raises(DeviceError, match="upload it first"):
        estimate_flow(np.zeros((40, 60), np.float32), plane)
    with pytest.raises(ShapeError, match=r"got flow \(2, 40, 61\), expected \(2, 40, 60\)"):
        estimator.estimate(plane, plane, fake_cupy.zeros((2, 40, 61)))
    assert fake_cupy.count("launch") == 0
