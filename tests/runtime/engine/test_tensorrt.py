"""The TensorRT session: its tensors, errors with their remedy, and, on a GPU, everything."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.engine import tensorrt
from runtime.engine.backends import list_backends
from runtime.engine.device import EngineType
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.session import get_device_tensors
from runtime.engine.tensorrt import TensorRtSession, read_tensors
from runtime.errors import SessionError

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
HAS_RTX = any(backend.name == "rtx" and backend.available for backend in list_backends())


class Engine:
    """The part of an engine that describes its tensors, in the library's types."""

    def __init__(self, library, tensors):
        self._library, self._tensors = library, tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_shape(self, name):
        return self._tensors[name][0]

    def get_tensor_dtype(self, name):
        return getattr(self._library.DataType, self._tensors[name][1])

    def get_tensor_mode(self, name):
        return getattr(self._library.TensorIOMode, self._tensors[name][2])


@needs_rtx
def test_inputs_and_outputs_are_distinguished_with_their_dtypes():
    import tensorrt_rtx

    engine = Engine(
        tensorrt_rtx,
        {
            "frame": ((1, 3, 8, 8), "FLOAT", "INPUT"),
            "output": ((1, 3, 16, 16), "HALF", "OUTPUT"),
            "index": ((4,), "INT64", "INPUT"),
        },
    )

    inputs, outputs = read_tensors(tensorrt_rtx, engine, Path("x.engine"))

    assert [(one.name, one.dtype, one.shape) for one in inputs] == [
        ("frame", np.float32, (1, 3, 8, 8)), ("index", np.int64, (4,)),
    ]  # fmt: skip
    assert [(one.name, one.dtype) for one in outputs] == [("output", np.float16)]


@needs_rtx
def test_an_engine_of_open_shapes_is_refused():
    import tensorrt_rtx

    engine = Engine(tensorrt_rtx, {"frame": ((1, 3, -1, 8), "FLOAT", "INPUT")})

    with pytest.raises(SessionError, match=r"has an open dimension in frame .*; build it with fixed shapes"):
        read_tensors(tensorrt_rtx, engine, Path("x.engine"))


@needs_rtx
def test_the_installed_library_has_every_name_that_is_taken_from_it():
    """A smoke test for new releases: it reads the names out of the code and runs nothing."""
    import tensorrt_rtx as library

    tree = ast.parse(Path(tensorrt.__file__).read_text("utf-8"))
    taken = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "library"
    }

    assert {"Runtime", "ILogger", "nptype"} <= taken
    assert [name for name in sorted(taken) if not hasattr(library, name)] == []


@needs_rtx
@pytest.mark.skipif(HAS_RTX, reason="this box has an RTX GPU")
def test_without_a_gpu_an_engine_is_refused_with_what_the_library_said(tmp_path, monkeypatch):
    path = tmp_path / "x.engine"
    path.write_bytes(b"no engine")
    # A stream is the first thing that needs a driver; CuPy is not installed on every machine without a GPU.
    stream = SimpleNamespace(cuda=SimpleNamespace(Stream=dict))
    monkeypatch.setattr(tensorrt, "_load_cupy", lambda: stream)

    with pytest.raises(SessionError, match=r"x\.engine is not an engine for this GPU and tensorrt_rtx .*; build it"):
        TensorRtSession(path, engine_type=EngineType.RTX, precision="fp32")


@pytest.mark.parametrize(
    ("missing", "engine_type", "message"),
    [
        ("tensorrt", EngineType.TENSORRT, r"tensorrt is not installed; pip install 'relume\[tensorrt\]'"),
        ("cupy", EngineType.RTX, r"cupy is not installed; pip install 'relume\[cuda\]'"),
        ("", EngineType.OPENVINO, "engines of openvino cannot be run by TensorRT"),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(tmp_path, monkeypatch, missing, engine_type, message):
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: None if name == missing else name)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace())

    with pytest.raises(SessionError, match=message):
        TensorRtSession(tmp_path / "x.engine", engine_type=engine_type, precision="fp32")


class Context:
    """Runs a network that doubles its input, on the memory of a fake GPU."""

    def __init__(self, gpu):
        self.gpu, self.addresses = gpu, {}

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        x, y = (self.gpu.at(self.addresses[name]) for name in "xy")
        self.gpu.enqueue("engine", lambda: np.multiply(x, 2, out=y), stream)
        return True


@pytest.fixture
def doubling(fake_gpu, tmp_path, monkeypatch):
    """A session whose network doubles its input, on a fake GPU."""
    library = SimpleNamespace(
        DataType=SimpleNamespace(FLOAT="f4"), TensorIOMode=SimpleNamespace(INPUT=0, OUTPUT=1), nptype=np.dtype,
        ILogger=type("ILogger", (), {"ERROR": 1}),
    )  # fmt: skip
    engine = Engine(library, {"x": ((2, 3), "FLOAT", "INPUT"), "y": ((2, 3), "FLOAT", "OUTPUT")})
    engine.create_execution_context = lambda: Context(fake_gpu)
    library.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    (tmp_path / "x.engine").write_bytes(b"engine")

    with TensorRtSession(tmp_path / "x.engine", engine_type=EngineType.TENSORRT, precision="fp32") as session:
        yield session


def test_a_session_runs_and_releases_the_memory_when_it_is_closed(fake_gpu, doubling):
    made = doubling.run({"x": np.ones((2, 3), np.float32)})
    used = fake_gpu.used
    doubling.close()

    np.testing.assert_array_equal(made["y"], np.full((2, 3), 2, np.float32))
    assert used >= 2 * 24
    assert fake_gpu.used == 0


def test_a_session_offers_its_tensors_on_the_gpu_and_runs_on_any_stream_without_copies(fake_gpu, doubling):
    tensors, stream = get_device_tensors(doubling), fake_gpu.cuda.Stream()
    tensors.inputs["x"].fill(3)
    fake_gpu.log.clear()

    tensors.enqueue(stream)

    assert [event.kind for event in fake_gpu.log] == ["graph"]
    np.testing.assert_array_equal(tensors.outputs["y"].get(), np.full((2, 3), 6, np.float32))
    doubling.close()
    assert get_device_tensors(doubling) is None


def test_an_engine_that_needs_more_memory_than_is_free_is_refused_before_it_allocates(fake_gpu, doubling):
    engine = doubling._engine
    engine.device_memory_size_v2 = fake_gpu.free_bytes
    used = fake_gpu.used

    with pytest.raises(SessionError, match=r"the engine's tensors take 1024 MiB and the GPU has 10\d\d MiB free"):
        TensorRtSession(doubling._cache_path.with_name("x.engine"), engine_type=EngineType.TENSORRT, precision="fp32")

    assert fake_gpu.used == used


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_RTX, reason="TensorRT for RTX needs an RTX GPU, its driver and cupy")
def test_an_engine_agrees_with_onnx_runtime_and_keeps_its_kernels(tiny_network, tensors, tmp_path):
    from export.engine_builders import build_engine
    from export.onnx_export import set_static_shapes

    sizes = {"height": 20, "width": 24}
    fixed, path = tmp_path / "tiny.onnx", tmp_path / "tiny.engine"
    set_static_shapes(tiny_network, fixed, sizes)
    build_engine(fixed, path)
    with OnnxRuntimeCpuSession(tiny_network, dimensions=sizes, precision="fp32", threads=1) as reference:
        expected = reference.run(tensors)

    for _ in range(2):
        with TensorRtSession(path, engine_type=EngineType.RTX, precision="fp32") as session:
            first, second = session.run(tensors), session.run(tensors)
            assert session.graph_problem == ""
        for name, array in expected.items():
            np.testing.assert_allclose(first[name], array, atol=5e-3)
            np.testing.assert_array_equal(first[name], second[name])
        assert path.with_name("tiny.engine.runtime-cache").is_file()
