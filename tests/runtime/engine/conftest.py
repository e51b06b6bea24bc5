"""A small network whose output has twice the sides of its input, as ONNX with named dimensions; and a fake GPU."""

import sys
import weakref
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, CHANNELS = 20, 24, 8


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory):
    """Frame and state in, enlarged frame and next state out: the form of a step engine."""
    random = np.random.default_rng(0)

    def weights(name, shape):
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array((scale * random.standard_normal(shape)).astype(np.float32), name)

    sides = ["height", "width"]
    doubled = ["2*height", "2*width"]
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["frame", "hidden"], ["both"], axis=1),
            helper.make_node("Conv", ["both", "w1"], ["features"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["features"], ["hidden_out"]),
            helper.make_node("Conv", ["hidden_out", "w2"], ["planes"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("DepthToSpace", ["planes"], ["output"], blocksize=2),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("frame", TensorProto.FLOAT, [1, 3, *sides]),
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1, CHANNELS, *sides]),
        ],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, *doubled]),
            helper.make_tensor_value_info("hidden_out", TensorProto.FLOAT, [1, CHANNELS, *sides]),
        ],
        [weights("w1", (CHANNELS, 3 + CHANNELS, 3, 3)), weights("w2", (12, CHANNELS, 3, 3))],
    )
    path = tmp_path_factory.mktemp("engine") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def tensors():
    """Return one set of inputs for the tiny network."""
    random = np.random.default_rng(1)
    return {
        "frame": random.random((1, 3, HEIGHT, WIDTH), np.float32),
        "hidden": random.random((1, CHANNELS, HEIGHT, WIDTH), np.float32),
    }


class FakeGpu:
    """The part of CuPy and PyCUDA that a session uses, on the host's memory: it counts bytes in use, and copies."""

    def __init__(self, *, integrated: bool) -> None:
        self.integrated = integrated
        self.pooled, self.copies = 0, []
        self._arrays: dict[int, weakref.ref[np.ndarray]] = {}

    @property
    def used(self) -> int:
        """Bytes of arrays that are still referred to, or kept in a pool."""
        return self.pooled + sum(array().nbytes for array in self._arrays.values() if array() is not None)

    def empty(self, shape, dtype=np.float32, **_):
        array = np.zeros(shape, dtype).view(FakeArray)
        array.gpu, array.data_pointer = self, 4096 * (len(self._arrays) + 1)
        self._arrays[array.data_pointer] = weakref.ref(array)
        weakref.finalize(array, self._pool, array.nbytes)
        return array

    def at(self, address: int) -> np.ndarray:
        """Return the array at an address of the device."""
        return self._arrays[address]()

    def _pool(self, size: int) -> None:
        self.pooled += 0 if self.integrated else size

    def free_all_blocks(self) -> None:
        self.pooled = 0

    def modules(self) -> dict[str, SimpleNamespace]:
        stream = SimpleNamespace(ptr=1, synchronize=lambda: self.copies.append("wait"), launch=None)
        stream.begin_capture = lambda: None
        stream.end_capture = lambda: None
        runtime = SimpleNamespace(
            getDevice=lambda: 0,
            getDeviceProperties=lambda _: {"integrated": self.integrated},
            memGetInfo=lambda: (1 << 30, 1 << 30),
        )
        cuda = SimpleNamespace(runtime=runtime, Stream=lambda **_: stream, get_current_stream=lambda: stream)
        pool = SimpleNamespace(free_all_blocks=self.free_all_blocks)
        cupy = SimpleNamespace(
            empty=self.empty,
            cuda=cuda,
            get_default_memory_pool=lambda: pool,
            get_default_pinned_memory_pool=lambda: pool,
        )
        driver = SimpleNamespace(host_alloc_flags=SimpleNamespace(DEVICEMAP=2), pagelocked_empty=self.empty)
        return {
            "cupy": cupy,
            "cupyx": SimpleNamespace(empty_pinned=self.empty),
            "pycuda": SimpleNamespace(driver=driver),
            "pycuda.driver": driver,
            "pycuda.autoprimaryctx": SimpleNamespace(),
        }


class FakeArray(np.ndarray):
    """An array on the fake GPU."""

    gpu, data_pointer = None, 0

    @property
    def data(self):
        return SimpleNamespace(ptr=self.data_pointer)

    @property
    def base(self):
        return SimpleNamespace(get_device_pointer=lambda: self.data_pointer)

    def set(self, host, *, stream) -> None:  # noqa: ARG002
        self.gpu.copies.append("up")
        self[...] = host

    def get(self, *, stream, out, blocking):  # noqa: ARG002
        self.gpu.copies.append("down")
        out[...] = self


@pytest.fixture(params=[False, True], ids=["card", "integrated"])
def fake_gpu(request, monkeypatch) -> FakeGpu:
    """A GPU with memory of its own, or one that shares the host's."""
    gpu = FakeGpu(integrated=request.param)
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    found = lambda name: name if name in sys.modules else None  # noqa: E731
    monkeypatch.setattr("runtime.engine.device_memory.find_spec", found)
    monkeypatch.setattr("runtime.engine.tensorrt.find_spec", found)
    return gpu
