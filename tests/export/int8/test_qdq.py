"""A Q/DQ graph computes the formula, in the scheme that its runtime executes correctly."""

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8.convert import snr
from export.int8.qdq import activation_scale, quantise_graph
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.openvino import OpenVinoSession
from runtime.manifest import QuantScheme

RANGES = {"x": (-1.0, 2.0), "joined": (-1.0, 2.0)}


def has_dot_products() -> bool:
    """Return whether the processor adds products of bytes in 32 bits, as x86 with VNNI and all ARM processors do."""
    about = Path("/proc/cpuinfo")
    return platform.machine() != "x86_64" or (about.exists() and "vnni" in about.read_text("utf-8"))


def made(nodes, weights, *, inputs=("x",), channels=2) -> onnx.ModelProto:
    sides = ("height", "width")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,) if name == "strength" else (1, channels, *sides))
        for name in inputs
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, *sides))
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "made", values, [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def conv(name, reads, gives, weight="w", **attributes):
    return helper.make_node("Conv", [reads, weight], [gives], name=name, **attributes)


def weights(*, inputs=2, side=1, seed=0):
    return {"w": np.random.default_rng(seed).normal(0, 1, (3, inputs, side, side)).astype(np.float32)}


def run(model, path, tensors, session=OnnxRuntimeCpuSession):
    onnx.save(model, path)
    height, width = tensors["x"].shape[2:]
    with session(path, dimensions={"height": height, "width": width}, precision="int8", threads=1) as opened:
        return opened.run(tensors)["y"]


def rounded(x, low, high, scheme):
    scale, zero = activation_scale(low, high, scheme=scheme)
    limits = np.iinfo(zero.dtype)
    return (np.clip(np.rint(x / scale) + int(zero), limits.min, limits.max) - int(zero)) * scale


@pytest.mark.parametrize("scheme", list(QuantScheme))
def test_a_layer_computes_with_rounded_input_and_weights(scheme, tmp_path):
    kernel = weights()
    model = made([conv("layer", "x", "y")], kernel)
    x = np.random.default_rng(1).uniform(-1.5, 2.5, (1, 2, 5, 7)).astype(np.float32)

    quantised = quantise_graph(model, RANGES, {"layer"}, scheme=scheme)

    scales = np.abs(kernel["w"]).max(axis=(1, 2, 3), keepdims=True) / 127
    kernel_rounded = np.rint(kernel["w"] / scales) * scales
    expected = np.einsum("oi,nihw->nohw", kernel_rounded[:, :, 0, 0], rounded(x, *RANGES["x"], scheme))
    for size in ((5, 7), (3, 2)):  # the named sides stay open
        cut = np.ascontiguousarray(x[:, :, : size[0], : size[1]])
        found = run(quantised, tmp_path / "q.onnx", {"x": cut})
        np.testing.assert_allclose(found, expected[:, :, : size[0], : size[1]], atol=1e-5)


def test_tensorrt_gets_symmetric_int8_and_no_int32():
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="layer")]
    model = made(nodes, {**weights(), "b": np.ones(3, np.float32)})

    quantised = quantise_graph(model, RANGES, {"layer"}, scheme=QuantScheme.SYMMETRIC_S8)

    kinds = {tensor.name: tensor.data_type for tensor in quantised.graph.initializer}
    zeros = [numpy_helper.to_array(t) for t in quantised.graph.initializer if t.name.endswith("_zero")]
    assert all(not zero.any() and zero.dtype == np.int8 for zero in zeros)
    assert kinds["b"] == TensorProto.FLOAT
    assert TensorProto.INT32 not in kinds.values()
    assert kinds["w_quantised"] == TensorProto.INT8
    assert "w" not in kinds


def test_a_tensor_that_two_layers_read_is_quantised_once():
    nodes = [
        conv("one", "x", "a"),
        conv("other", "x", "b", weight="v"),
        helper.make_node("Add", ["a", "b"], ["y"], name="add"),
    ]
    model = made(nodes, {**weights(), "v": weights(seed=5)["w"]})

    quantised = quantise_graph(model, RANGES, {"one", "other"}, scheme=QuantScheme.ASYMMETRIC_U8)

    assert [node.op_type for node in quantised.graph.node].count("QuantizeLinear") == 1


def test_zero_is_exact_so_that_padding_is():
    for scheme in QuantScheme:
        for low, high in ((-0.3, 1.7), (0.0, 5.0), (-2.0, 0.0), (0.0, 0.0)):
            assert rounded(np.zeros(1), low, high, scheme) == 0


@pytest.fixture
def joined():
    """Two tensors, one never negative, concatenated before a layer: OpenVINO once computed this incorrectly."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], name="relu"),
        helper.make_node("Concat", ["positive", "x"], ["joined"], name="concat", axis=1),
        conv("layer", "joined", "y", pads=[1, 1, 1, 1]),
    ]
    return made(nodes, weights(inputs=4, side=3))


@pytest.mark.parametrize(
    "session",
    [
        OnnxRuntimeCpuSession,
        # Without these instructions OpenVINO (2026) adds pairs of products in 16 bits, which full weights overflow.
        pytest.param(OpenVinoSession, marks=pytest.mark.skipif(not has_dot_products(), reason="no VNNI instructions")),
    ],
)
def test_runtimes_read_the_cpu_form_alike(joined, tmp_path, session):
    x = np.random.default_rng(1).uniform(-1, 2, (1, 2, 24, 24)).astype(np.float32)

    quantised = quantise_graph(joined, RANGES, {"layer"}, scheme=QuantScheme.ASYMMETRIC_U8)

    exact = run(joined, tmp_path / "f.onnx", {"x": x})
    assert snr(exact, run(quantised, tmp_path / "q.onnx", {"x": x}, session)) > 35


@pytest.mark.parametrize(("scheme", "reshapes"), [(QuantScheme.ASYMMETRIC_U8, 1), (QuantScheme.SYMMETRIC_S8, 0)])
def test_a_strength_gets_the_rank_of_the_image_for_the_cpu(scheme, reshapes, tmp_path):
    nodes = [conv("layer", "x", "a"), helper.make_node("Mul", ["a", "strength"], ["y"], name="scale")]
    model = made(nodes, weights(), inputs=("x", "strength"))
    x = np.random.default_rng(1).uniform(-1, 2, (1, 2, 4, 4)).astype(np.float32)

    quantised = quantise_graph(model, RANGES, {"layer"}, scheme=scheme)

    assert [node.op_type for node in quantised.graph.node].count("Reshape") == reshapes
    whole, half = (
        run(quantised, tmp_path / "q.onnx", {"x": x, "strength": np.array([value], np.float32)}) for value in (1, 0.5)
    )
    np.testing.assert_allclose(half, whole / 2, atol=1e-6)


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="got layers nothing; the file has layer"):
        quantise_graph(
            made([conv("layer", "x", "y")], weights()), RANGES, {"nothing"}, scheme=QuantScheme.ASYMMETRIC_U8
        )


def test_a_tensor_without_a_range_is_named():
    with pytest.raises(ValueError, match="there is no range for x; calibrate with this file"):
        quantise_graph(made([conv("layer", "x", "y")], weights()), {}, {"layer"}, scheme=QuantScheme.ASYMMETRIC_U8)
