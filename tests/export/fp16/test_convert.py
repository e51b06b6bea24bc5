"""FP16 files keep their `fp32_nodes` in float32 and pass the gates, or are discarded."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.comparison_inputs import random_tiles
from export.fp16.convert import COMPUTE, Fp16Error, compare_files, convert_to_fp16, find_fp32_nodes
from export.fp16.graph import rewrite_to_fp16
from export.onnx_export import set_static_shapes
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.manifest import find_model

SMALL = ("basicvsr-flow", "basicvsr-backward", "basicvsr-reconstruction", "realbasicvsr-clean", "unet-clean", "sr-unet")
SMALL += ("rvrt-align", "rvrt-group", "hybrid-demucs")


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_network_passes_the_gate(exported_graphs, tmp_path, name: str) -> None:
    graph, exported = exported_graphs[name]

    converted = convert_to_fp16(exported.path, tmp_path / "half.onnx", random_tiles(graph.inputs, 3))

    assert converted.psnr_db >= 50
    assert converted.tiles == 3
    kinds = {tensor.data_type for tensor in onnx.load(converted.path).graph.initializer}
    assert TensorProto.FLOAT16 in kinds


def test_positions_stay_float32(exported_graphs) -> None:
    model = onnx.load(exported_graphs["rvrt-align"][1].path)
    fp32_nodes = find_fp32_nodes(model)
    kinds = {node.op_type for node in model.graph.node if node.name in fp32_nodes}
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

    half = rewrite_to_fp16(model, {"island1", "island2"})

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
    results = run(rewrite_to_fp16(model, {"c"}), tmp_path, {"x": np.ones((2, 3), np.float32)})
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
    assert run(rewrite_to_fp16(model, set()), tmp_path, {"x": x})["y"].tolist() == [[1, 0, 0], [1, 0, 0]]


def test_a_weight_that_is_too_large_is_refused() -> None:
    weights = [("w", np.full((2, 3), 1e6, np.float32))]
    with pytest.raises(ValueError, match="weight w has values above 65504; keep its node in float32"):
        rewrite_to_fp16(made([helper.make_node("Mul", ["x", "w"], ["y"], name="a")], weights=weights), set())


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
    with pytest.raises(Fp16Error, match="output y of tile 0 has NaN or infinite values"):
        convert_to_fp16(saved(tmp_path, 1000.0), target, random_tiles({"x": (2, 3)}, 2))
    assert not target.exists()


def test_a_tile_below_the_gate_is_caught(tmp_path) -> None:
    with pytest.raises(Fp16Error, match=r"output y of tile 0 has \d+\.\d dB against float32, expected 120 dB"):
        convert_to_fp16(saved(tmp_path, 3.0), tmp_path / "half.onnx", random_tiles({"x": (2, 3)}, 2), gate_db=120)


def test_what_a_recurrence_reads_is_float32_from_the_last_layer_on() -> None:
    """TensorRT for RTX 1.7 fails to build an LSTM or GRU of more than one step with a cast before it."""
    model = onnx.load(find_model("speech-demucs").file())
    fp32_nodes = find_fp32_nodes(model)
    maker = {output: node for node in model.graph.node for output in node.output}
    lstm = next(node for node in model.graph.node if node.op_type == "LSTM")
    name, between = lstm.input[0], []
    while maker[name].op_type not in COMPUTE:
        between.append(maker[name])
        name = maker[name].input[0]
    assert [node.op_type for node in between] == ["Transpose", "Mul", "Split"]
    assert {node.name for node in between} <= fp32_nodes
    assert maker[name].name not in fp32_nodes


def test_a_loud_voice_does_not_overflow_the_spectrum_of_the_mask(tmp_path) -> None:
    """Ten times the level is a peak of speech; its power in one bin is above 65504."""
    source = tmp_path / "mask.onnx"
    set_static_shapes(find_model("speech-mask").file(), source, {"samples": 1024})
    with OnnxRuntimeCpuSession(source, dimensions={}, precision="fp32", threads=1) as session:
        loud = {binding.name: np.zeros(binding.shape, np.float32) for binding in session.inputs}
    loud["x"][...] = 10 * np.sin(np.arange(1024) / 5)

    converted = convert_to_fp16(source, tmp_path / "half.onnx", [loud], stream=True)

    assert converted.psnr_db >= 50


def quiet_and_loud():
    return [{"x": np.full((2, 3), level, np.float32)} for level in (1e-3, 1.0)]


def adding(tmp_path, name: str, factor: float):
    path = tmp_path / f"{name}.onnx"
    onnx.save(
        made(
            [helper.make_node("Add", ["x", "w"], ["y"], name="a")],
            weights=[("w", np.full((2, 3), factor, np.float32))],
        ),
        path,
    )
    return path


def test_a_pause_in_a_stream_is_held_against_the_peak_of_the_stream(tmp_path) -> None:
    reference, candidate = adding(tmp_path, "exact", 0.0), adding(tmp_path, "off", 1e-4)

    with pytest.raises(Fp16Error, match=r"output y of tile 0 has 20.0 dB"):
        compare_files(reference, candidate, quiet_and_loud(), gate_db=50)
    worst, count = compare_files(reference, candidate, quiet_and_loud(), gate_db=50, stream=True)

    assert worst == pytest.approx(80, abs=0.1)
    assert count == 2


def test_a_stream_below_the_gate_is_caught_and_its_block_named(tmp_path) -> None:
    reference, candidate = adding(tmp_path, "exact", 0.0), adding(tmp_path, "off", 1e-2)
    with pytest.raises(Fp16Error, match=r"output y of tile 0 has 40.0 dB against float32, expected 50 dB"):
        compare_files(reference, candidate, quiet_and_loud(), gate_db=50, stream=True)
