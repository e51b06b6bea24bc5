"""The descriptor of a frame, emulated on a CPU, against that of the CPU."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from kernels.cuda.degradation import DegradationMeter
from kernels.errors import DtypeError, LayoutError, ShapeError
from runtime.video.degradation import describe_degradation


def frames(height, width):
    """Noise, blur, a flat frame, and one with few distinct values, as coding leaves them."""
    random = np.random.default_rng(1)
    noise = random.random((height, width), np.float32)
    yield noise
    yield gaussian_filter(noise, 2)
    yield np.full((height, width), 0.5, np.float32)
    yield np.round(noise * 6) / np.float32(6)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (90, 121), (359, 40), (361, 33), (1080, 18), (770, 6)], ids=str)
def test_the_descriptor_is_that_of_the_cpu(fake_cupy, size):
    meter, out, half = DegradationMeter(*size), fake_cupy.zeros((1, 8)), fake_cupy.zeros(8, np.float16)

    for frame in frames(*size):
        meter.describe(fake_cupy.asarray(frame), out)
        meter.describe(fake_cupy.asarray(frame), half)

        expected = describe_degradation(frame)
        np.testing.assert_allclose(out.get()[0], expected, rtol=0, atol=2e-5)
        np.testing.assert_array_equal(half.get(), out.get()[0].astype(np.float16))


def test_it_is_three_launches_and_no_wait(fake_cupy):
    meter, out, luma = DegradationMeter(8, 8), fake_cupy.zeros(8), fake_cupy.zeros((8, 8))
    fake_cupy.log.clear()

    meter.describe(luma, out)

    assert [event.name for event in fake_cupy.log] == ["haar", "haar", "describe"]


def test_arrays_that_do_not_fit_are_refused_before_a_launch(fake_cupy):
    meter, luma = DegradationMeter(8, 8), fake_cupy.zeros((8, 8))

    with pytest.raises(ShapeError, match="expected at least 4x4"):
        DegradationMeter(3, 8)
    with pytest.raises(ShapeError, match=r"got luma \(7, 8\), expected \(8, 8\)"):
        meter.describe(luma[1:], fake_cupy.zeros(8))
    with pytest.raises(DtypeError, match="got out of float64"):
        meter.describe(luma, fake_cupy.zeros(8, np.float64))
    with pytest.raises(LayoutError):
        meter.describe(luma, fake_cupy.zeros(16)[::2])
    assert fake_cupy.count("launch") == 0
