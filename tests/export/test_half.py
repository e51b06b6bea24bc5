"""FP16 files keep their islands in float32 and pass the gates, or are not kept."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.half import HalfPrecisionError, convert_to_half, find_islands
from export.half_graph import rewrite_to_half
from export.tiles import random_tiles
from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession

SMALL = ("basicvsr-flow", "basicvsr-backward", "basicvsr-reconstruction", "realbasicvsr-clean", "unet-clean", "sr-unet")
SMALL += ("rvrt-align", "rvrt-group", "hybrid-demucs")


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_network_passes_the_gate(exported_graphs, tmp_path, name: str) -> None:
    graph, exported = exported_graphs[name]

    converted = convert_to_half(exported.path, tmp_path / "half.onnx", random_tiles(graph.inputs, 3))

    assert converted.psnr_db >= 50
    assert converted.tiles == 3
    kinds = {tensor.data_type for tensor in onnx.load(converted.path).graph.initializer}
    assert TensorProto.FLOAT16 in kinds


def test_positions_stay_float32(exported_graphs) -> None:
    model = onnx.load(exported_graphs["rvrt-align"][1].path)
    islands = find_islands(model)
    kinds = {node.op_type for node in model.graph.node if node.name in islands}
    assert {"GridSample", "Softmax", "Tanh"} <= kinds
    assert "Conv" not in kinds


def made(nodes, *, weights=(), inputs=("x",), outputs=("y",), shape=(2, 3)) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, tmp_path, tile):
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "run.onnx"
    onnx.save(model, path)
    with OnnxRuntimeCpuSession(path, dimensions={}, precision="fp16", threads=1) as session:
        return session.run(tile)


def test_a_value_that_both_kinds_read_is_cast_once(tmp_path) -> None:
    weight = np.full((2, 3), 0.1, np.float32)
    model = made(
        [
            helper.make_node("Add", ["x", "w"], ["sum"], name="half1"),
            helper.make_node("Softmax", ["sum"], ["s1"], name="island1"),
            helper.make_node("Mul", ["sum", "w"], ["s2"], name="island2"),
            helper.make_node("Add", ["s1", "s2"], ["y"], name="half2"),
        ],
        weights=[("w", weight)],
    )

    half = rewrite_to_half(model, {"island1", "island2"})

    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert [cast.input[0] for cast in casts].count("sum") == 1
    assert {(tensor.name, tensor.data_type) for tensor in half.graph.initializer} == {
        ("w", TensorProto.FLOAT),
        ("w_half", TensorProto.FLOAT16),
    }
    x = np.random.default_rng(0).random((2, 3), np.float32)
    total = x + weight
    expected = np.exp(total) / np.exp(total).sum(axis=1, keepdims=True) + total * weight
    np.testing.assert_allclose(run(half, tmp_path, {"x": x})["y"], expected, atol=2e-3)


def test_an_output_that_is_read_again_keeps_its_name_and_type(tmp_path) -> None:
    model = made(
        [
            helper.make_node("Relu", ["x"], ["y"], name="a"),
            helper.make_node("Neg", ["y"], ["z"], name="b"),
            helper.make_node("Softmax", ["y"], ["p"], name="c"),
        ],
        outputs=("y", "z", "p"),
    )
    results = run(rewrite_to_half(model, {"c"}), tmp_path, {"x": np.ones((2, 3), np.float32)})
    assert {name: value.dtype for name, value in results.items()} == dict.fromkeys(("y", "z", "p"), np.dtype("float32"))


def test_a_constant_shape_without_a_type_becomes_half(tmp_path) -> None:
    model = made(
        [
            helper.make_node("ConstantOfShape", ["size"], ["zeros"], name="zeros"),
            helper.make_node("Concat", ["x", "zeros"], ["joined"], name="join", axis=1),
            helper.make_node("Slice", ["joined", "from", "to", "axis"], ["y"], name="cut"),
        ],
        weights=[
            ("size", np.array([2, 3])),
            ("from", np.array([2])),
            ("to", np.array([5])),
            ("axis", np.array([1])),
        ],
    )
    x = np.ones((2, 3), np.float32)
    assert run(rewrite_to_half(model, set()), tmp_path, {"x": x})["y"].tolist() == [[1, 0, 0], [1, 0, 0]]


def test_a_weight_that_is_too_large_is_refused() -> None:
    weights = [("w", np.full((2, 3), 1e6, np.float32))]
    with pytest.raises(ValueError, match="weight w has values above 65504; keep its node in float32"):
        rewrite_to_half(made([helper.make_node("Mul", ["x", "w"], ["y"], name="a")], weights=weights), set())


def saved(tmp_path, factor: float):
    path = tmp_path / "source.onnx"
    weights = [("w", np.full((2, 3), factor, np.float32)), ("v", np.full((2, 3), 1 / factor, np.float32))]
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["big"], name="a"),
        helper.make_node("Mul", ["big", "w"], ["bigger"], name="b"),
        helper.make_node("Mul", ["bigger", "v"], ["y"], name="c"),
    ]
    onnx.save(made(nodes, weights=weights), path)
    return path


def test_values_that_overflow_are_caught_and_nothing_is_kept(tmp_path) -> None:
    target = tmp_path / "half.onnx"
    with pytest.raises(HalfPrecisionError, match="output y of tile 0 has values that are not finite"):
        convert_to_half(saved(tmp_path, 1000.0), target, random_tiles({"x": (2, 3)}, 2))
    assert not target.exists()


def test_a_tile_below_the_gate_is_caught(tmp_path) -> None:
    with pytest.raises(HalfPrecisionError, match=r"output y of tile 0 has \d+\.\d dB against float32, expected 120 dB"):
        convert_to_half(saved(tmp_path, 3.0), tmp_path / "half.onnx", random_tiles({"x": (2, 3)}, 2), gate_db=120)
