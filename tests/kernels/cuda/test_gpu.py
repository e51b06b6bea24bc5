"""The kernels on a real GPU, against the same kernels emulated on a CPU: the same bits."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from tests.fake_cupy import FakeCupy
from tests.kernels.cuda.every_kernel import run_every_kernel


@pytest.fixture
def real_cupy():
    if find_spec("cupy") is None:
        pytest.skip("needs cupy")
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    return cupy


@pytest.mark.gpu
def test_a_gpu_computes_the_bits_that_the_emulation_computes(real_cupy, kernel_folder, monkeypatch):
    on_gpu = run_every_kernel(real_cupy)
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(kernel_folder))
    emulated = run_every_kernel(sys.modules["cupy"])

    for name, array in emulated.items():
        if name.startswith("descriptor"):  # the last bit of a logarithm depends on the GPU
            np.testing.assert_allclose(on_gpu[name], array, atol=1e-6 if array.dtype == np.float32 else 2e-3)
        else:
            np.testing.assert_array_equal(on_gpu[name], array, name)


@pytest.mark.gpu
def test_no_kernel_spills_on_this_gpu(real_cupy):
    from kernels.cuda.module import OPTIONS, SOURCES, read_source
    from tests.nvrtc import KERNEL

    for source in SOURCES:
        module = real_cupy.RawModule(code=read_source(source), options=OPTIONS)
        for name in KERNEL.findall(read_source(source)):
            assert module.get_function(name).local_size_bytes == 0, name


@pytest.mark.gpu
def test_the_flow_can_be_captured_in_a_graph(real_cupy):
    from kernels.cuda.flow import FlowEstimator

    random = np.random.default_rng(1)
    frame, previous = (real_cupy.asarray(random.random((60, 90), np.float32)) for _ in range(2))
    estimator, plain, captured = FlowEstimator(60, 90), *(real_cupy.zeros((2, 60, 90), np.float32) for _ in range(2))
    stream = real_cupy.cuda.Stream(non_blocking=True)
    real_cupy.cuda.Device().synchronize()

    with stream:
        estimator.estimate(frame, previous, plain)
        stream.begin_capture()
        estimator.estimate(frame, previous, captured)
        stream.end_capture().launch()
        stream.synchronize()

    np.testing.assert_array_equal(captured.get(), plain.get())
