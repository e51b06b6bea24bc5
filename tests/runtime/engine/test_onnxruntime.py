"""A session checks its inputs by name, dtype and shape before it runs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.errors import SessionError


@pytest.fixture
def doubling(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "height", "2*width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "height", "2*width"])],
    )
    path = tmp_path / "doubling.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def open_doubling(path, **dimensions):
    return OnnxRuntimeCpuSession(path, dimensions=dimensions, precision="fp32", threads=1)


def test_named_dimensions_and_their_multiples_are_fixed(doubling):
    with open_doubling(doubling, height=3, width=4) as session:
        result = session.run({"x": np.ones((1, 3, 8), np.float32)})["y"]

        assert session.inputs[0].shape == (1, 3, 8)
        assert session.outputs[0].shape == (1, 3, 8)
        assert session.backend == "onnxruntime-cpu"
    np.testing.assert_array_equal(result, 2)


def test_a_dimension_left_open_is_refused(doubling):
    with pytest.raises(SessionError, match="set the size of all of them"):
        open_doubling(doubling, height=3)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"got inputs \[\], expected \['x'\]"),
        ({"x": np.ones((1, 3, 8), np.float32), "z": np.ones(1)}, r"got inputs \['x', 'z'\]"),
        ({"x": np.ones((1, 3, 8))}, "input x is float64"),
        ({"x": np.ones((1, 3, 7), np.float32)}, r"expected float32 \(1, 3, 8\)"),
    ],
)
def test_wrong_tensors_are_refused_before_running(doubling, tensors, message):
    with open_doubling(doubling, height=3, width=4) as session, pytest.raises(SessionError, match=message):
        session.run(tensors)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model")

    with pytest.raises(SessionError, match="ONNX Runtime cannot open"):
        open_doubling(path)
