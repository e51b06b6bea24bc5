"""A small network that doubles the sides of its input, as ONNX with named dimensions; and a fake GPU."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.fake_cupy import FakeCupy

HEIGHT, WIDTH, CHANNELS = 20, 24, 8


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory):
    """Frame and state in, enlarged frame and next state out: the interface of a step engine."""
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


@pytest.fixture(params=[False, True], ids=["card", "integrated"])
def fake_gpu(request, kernel_folder, monkeypatch) -> FakeCupy:
    """A GPU with its own memory, or one that shares the host's."""
    gpu = FakeCupy(kernel_folder, integrated=request.param)
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("runtime.engine.tensorrt.find_spec", lambda name: name if name in sys.modules else None)
    return gpu
