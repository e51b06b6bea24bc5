import numpy as np
import pytest

from kernels.colour import YuvLayout
from kernels.errors import DtypeError, ShapeError
from kernels.grain import add_grain
from kernels.workers import Workers

LIMITED_8 = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")
LIMITED_10 = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=10, chroma="420")
FULL_8 = YuvLayout(0.299, 0.114, full_range=True, bit_depth=8, chroma="444")


def grey(value: int, dtype=np.uint8, shape=(270, 481)):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(("layout", "value"), [(LIMITED_8, 126), (LIMITED_10, 502), (FULL_8, 128)])
def test_mid_tones_get_the_asked_deviation_and_keep_their_mean(layout, value):
    plane = grey(value, np.uint8 if layout.bit_depth == 8 else np.uint16)

    add_grain(plane, 0.04, layout, frame=3)

    span = layout.coding()[1]
    change = plane.astype(float) - value
    assert change.std() == pytest.approx(0.04 * span, rel=0.05)
    assert abs(change.mean()) < 0.15 * layout.bit_depth


@pytest.mark.parametrize("value", [16, 235])
def test_black_and_white_stay(value):
    assert (add_grain(grey(value), 0.1, LIMITED_8, frame=0) == value).all()


def test_the_frame_decides_the_grain_and_the_threads_do_not():
    first, again, other, shared = (grey(100) for _ in range(4))
    add_grain(first, 0.05, LIMITED_8, frame=7)
    add_grain(again, 0.05, LIMITED_8, frame=7)
    add_grain(other, 0.05, LIMITED_8, frame=8)
    with Workers(3) as workers:
        add_grain(shared, 0.05, LIMITED_8, frame=7, workers=workers)

    assert (first == again).all()
    assert (first == shared).all()
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05


def test_neighbouring_blocks_differ():
    plane = add_grain(grey(126), 0.05, LIMITED_8, frame=1)

    blocks = [plane[32:64, left : left + 32].ravel() for left in (0, 32, 64, 96)]
    assert np.abs(np.corrcoef(blocks) - np.eye(4)).max() < 0.2


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_no_grain_changes_nothing(sigma):
    assert (add_grain(grey(90), sigma, LIMITED_8, frame=1) == 90).all()


def test_bad_planes_are_refused():
    with pytest.raises(DtypeError, match="expected uint16"):
        add_grain(grey(90), 0.1, LIMITED_10, frame=0)
    with pytest.raises(ShapeError, match="contiguous"):
        add_grain(grey(90)[:, ::2], 0.1, LIMITED_8, frame=0)
    with pytest.raises(ShapeError):
        add_grain(np.zeros((3, 4, 5), np.uint8), 0.1, LIMITED_8, frame=0)
    assert add_grain(np.zeros((0, 5), np.uint8), 0.1, LIMITED_8, frame=0).size == 0
