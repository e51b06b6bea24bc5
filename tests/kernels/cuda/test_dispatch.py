"""The kernels' public functions dispatch by array type: CuPy arrays go to CUDA, emulated on a CPU."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from kernels import colour, flow, measures, tiles, warp
from kernels.__main__ import compile_for_gpu
from kernels.colour import YuvLayout
from kernels.errors import DeviceError

LAYOUT = YuvLayout(0.2126, 0.0722, False, 8, "420")


def arrays():
    random = np.random.default_rng(1)
    y, u, v = (random.integers(0, 256, size).astype(np.uint8) for size in ((33, 47), (17, 24), (17, 24)))
    luma = np.kron(random.random((10, 14)), np.ones((4, 4)))[:33, :47].astype(np.float32)
    motion = random.normal(0, 3, (2, 33, 47)).astype(np.float32)
    return (y, u, v), luma, motion


CALLS = {
    "yuv_to_rgb": lambda planes, *_: colour.yuv_to_rgb(planes, LAYOUT),
    "rgb_to_yuv": lambda planes, *_: colour.rgb_to_yuv(colour.yuv_to_rgb(planes, LAYOUT), LAYOUT)[0],
    "rgb_to_luma": lambda planes, *_: colour.rgb_to_luma(colour.yuv_to_rgb(planes, LAYOUT)),
    "search": lambda _, luma, __: flow.estimate_flow(luma, luma),
    "warp": lambda _, luma, motion: warp.warp(luma[None], motion),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_runs_on_the_gpu_with_arrays_of_cupy_and_agrees_with_the_cpu(fake_cupy, name):
    expected = CALLS[name](*arrays())
    planes, luma, motion = arrays()
    on_gpu = tuple(map(fake_cupy.asarray, planes)), fake_cupy.asarray(luma), fake_cupy.asarray(motion)
    fake_cupy.log.clear()

    result = CALLS[name](*on_gpu)

    assert fake_cupy.count("launch", name) >= 1
    np.testing.assert_allclose(result.get(), expected, atol=1 if expected.dtype == np.uint8 else 2e-6)


def test_blending_and_validity_run_on_the_gpu_too(fake_cupy):
    tile = tiles.Tile(0, 0, 4, 6, 0, 0, 4, 6)
    total, weight = fake_cupy.zeros((3, 4, 6)), fake_cupy.zeros((4, 6))

    tiles.add_tile(total, weight, tile, fake_cupy.ones((3, 4, 6)), fake_cupy.full((4, 6), 0.5))

    assert (total.get() == 0.5).all()
    assert (weight.get() == 0.5).all()
    assert measures.is_within(total, 0.6)
    assert not measures.is_within(total, 0.5)
    assert measures.largest_block_change(total, total) == 0
    assert measures.largest_block_change(total, fake_cupy.full(total.shape, 0.25)) == 0.25
    total[1, 2, 3] = np.nan
    assert not measures.is_within(total)
    assert measures.largest_block_change(total, total) > 1e30


def test_arrays_on_both_sides_are_refused(fake_cupy):
    planes, luma, motion = arrays()
    other = fake_cupy.asarray(luma)

    for work in (
        lambda: colour.yuv_to_rgb(planes, LAYOUT, fake_cupy.zeros((3, 33, 47))),
        lambda: flow.estimate_flow(luma, other),
        lambda: flow.estimate_flow(other, luma),
        lambda: warp.warp(other[None], motion),
        lambda: tiles.add_tile(
            other[None], other, tiles.Tile(0, 0, 33, 47, 0, 0, 33, 47), other[None], np.ones((33, 47), np.float32)
        ),
    ):
        with pytest.raises(DeviceError, match=r"got a numpy.ndarray beside arrays on a GPU, .*upload it first"):
            work()


class Refusing:
    """A module whose driver is too old."""

    def __init__(self, **_):
        pass

    def compile(self):
        raise RuntimeError("cudaErrorInsufficientDriver")


def test_cuda_kernels_are_compiled_after_installing_or_it_is_reported_why_not(fake_cupy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy, "RawModule", Refusing)
        found = compile_for_gpu()
    assert found.startswith("no CUDA kernels: the CUDA kernels of colour.cu cannot be compiled: cudaError")

    assert compile_for_gpu() == ""

    monkeypatch.delitem(sys.modules, "cupy")
    if find_spec("cupy") is None:
        assert compile_for_gpu() == "no CUDA kernels: cupy is not installed"
