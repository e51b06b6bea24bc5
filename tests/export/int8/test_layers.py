"""Layers are the nodes that multiply by stored weights; their share is counted in operations."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8.layers import find_layers, weight_scales, worth_quantising


@pytest.fixture
def model():
    """A convolution, a matrix product, a Gemm with its weights transposed, and a product of two activations."""
    weights = {
        "conv": np.ones((4, 2, 3, 3), np.float32),
        "product": np.ones((6, 5), np.float32),
        "gemm": np.ones((7, 5), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"], name="a convolution", pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["c", "product"], ["m"], name="a product"),
        helper.make_node("Reshape", ["m", "rows"], ["r"], name="a reshape"),
        helper.make_node("Gemm", ["r", "gemm"], ["y"], name="a gemm", transB=1),
        helper.make_node("Transpose", ["r"], ["t"], name="a transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["r", "t"], ["z"], name="of two activations"),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 8, 6))],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, (32, 7)),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, (32, 32)),
        ],
        [*tensors, numpy_helper.from_array(np.array([32, 5]), "rows")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_shares_are_of_the_multiplications(model):
    layers = find_layers(model)

    counted = {"a convolution": 4 * 2 * 9 * 48, "a product": 6 * 5 * 32, "a gemm": 7 * 5 * 32}
    assert {layer.name: layer.share for layer in layers} == pytest.approx(
        {name: count / sum(counted.values()) for name, count in counted.items()}
    )
    assert [layer.axis for layer in layers] == [0, 1, 0]


def test_a_layer_without_work_is_not_worth_it(model):
    layers = find_layers(model)

    small, least = replace(layers[1], share=0.29 * layers[0].share), replace(layers[2], share=0.31 * layers[0].share)

    assert worth_quantising([layers[0], small, least]) == ("a convolution", "a gemm")


def test_many_small_layers_are_worth_it_all(model):
    layers = [replace(find_layers(model)[0], name=str(number), share=0.01) for number in range(100)]

    assert len(worth_quantising(layers)) == 100


def test_each_channels_largest_weight_becomes_127():
    weight = np.array([[1.0, -4.0, 0.0], [0.5, 2.0, 0.0]], np.float32)

    np.testing.assert_allclose(weight_scales(weight, 1)[:2] * 127, [1, 4], rtol=1e-6)
    np.testing.assert_allclose(weight_scales(weight, 0) * 127, [4, 2], rtol=1e-6)
    assert weight_scales(weight, 1)[2] > 0
