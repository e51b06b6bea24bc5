"""The costliest layer is found, and it is the one that stays in float32."""

import io
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from calibration.sensitivity import Choice, LayerCost, choose_layers, cost_table, measure_layers, write_report
from export.int8.convert import Int8Error
from export.int8.ranges import measure_ranges
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession

SIZES = {"height": 8, "width": 8}
PICTURE = np.random.default_rng(2).uniform(0, 1, (1, 4, 8, 8)).astype(np.float32)


@pytest.fixture
def source(tmp_path):
    """Three layers in a row; the second reads a tensor with one value a thousand times larger than all others."""
    generator = np.random.default_rng(4)
    weights = {f"w{index}": generator.normal(0, 0.5, (4, 4, 3, 3)).astype(np.float32) for index in range(3)}
    spike = np.ones((1, 4, 1, 1), np.float32)
    spike[0, 0] = 1000
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Mul", ["a", "spike"], ["b"], name="spiked"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="second", pads=[1] * 4),
        helper.make_node("Tanh", ["c"], ["d"], name="squeezed"),
        helper.make_node("Conv", ["d", "w2"], ["y"], name="third", pads=[1] * 4),
    ]
    weights["w1"][:, 0] /= 1000
    sides = ("height", "width")
    graph = helper.make_graph(
        nodes,
        "spiked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, *sides))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, *sides))],
        [numpy_helper.from_array(value, name) for name, value in {**weights, "spike": spike}.items()],
    )
    path = tmp_path / "spiked.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture
def score(source):
    """PSNR against a gt that float32 itself misses by a little, as a real network does."""

    def run(path):
        with OnnxRuntimeCpuSession(path, dimensions=SIZES, precision="fp32", threads=1) as session:
            return session.run({"x": PICTURE})["y"]

    gt = run(source)
    gt = gt + np.random.default_rng(9).normal(0, 0.05 * gt.std(), gt.shape)

    def psnr(files):
        return float(10 * np.log10(np.ptp(gt) ** 2 / np.mean((run(files["step"]) - gt) ** 2)))

    return psnr


@pytest.fixture
def ranges(source):
    return {"step": measure_ranges(source, [{"x": PICTURE}])}


def test_the_layer_that_reads_a_spike_costs_most(source, ranges, score):
    measured = []

    costs = measure_layers({"step": source}, ranges, score, sizes=SIZES, on_layer=measured.append)

    assert measured == ["first", "second", "third"]
    assert costs[0].layer == "second"
    assert costs[0].loss_db > 10 * max(cost.loss_db for cost in costs[1:])
    assert [cost.share for cost in costs] == pytest.approx([1 / 3] * 3)


def test_weights_that_several_nodes_read_are_one_layer(tmp_path):
    weights = numpy_helper.from_array(np.random.default_rng(6).normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first_frame", pads=[1] * 4),
        helper.make_node("Conv", ["a", "w"], ["y"], name="second_frame", pads=[1] * 4),
    ]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4, 8, 8)) for name in ("x", "y")]
    path = tmp_path / "window.onnx"
    graph = helper.make_graph(nodes, "window", sides[:1], sides[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    scored = []

    (cost,) = measure_layers(
        {"window": path},
        {"window": measure_ranges(path, [{"x": PICTURE}])},
        lambda files: scored.append(onnx.load(files["window"])) or 30.0,
    )

    assert (cost.layer, cost.weight, cost.nodes) == ("first_frame", "w", ("first_frame", "second_frame"))
    assert (cost.role, cost.share) == ("window", 1)
    convolutions = [node for node in scored[-1].graph.node if node.op_type == "Conv"]
    assert all(node.input[0].endswith("_dequantised") for node in convolutions)


def test_it_goes_back_to_float_and_the_gate_holds(source, ranges, score):
    costs = measure_layers({"step": source}, ranges, score, sizes=SIZES)

    choice = choose_layers({"step": source}, ranges, score, costs, gate_db=0.15)

    assert {role: set(nodes) for role, nodes in choice.quantised.items()} == {"step": {"first", "third"}}
    assert choice.in_float == {"step": ("second",)}
    assert choice.loss_db <= 0.15
    assert [dropped for dropped, _ in choice.tried] == ["", "second"]
    assert choice.tried[0][1] > 0.15


def test_a_gate_out_of_reach_is_refused_and_names_the_layer(source, ranges, score):
    costs = measure_layers({"step": source}, ranges, score, sizes=SIZES)

    with pytest.raises(Int8Error, match=r"in INT8, allowed -9 dB; the costliest layer is second"):
        choose_layers({"step": source}, ranges, score, costs, gate_db=-9)


def test_the_table_and_the_report_tell_the_choice(tmp_path):
    costs = (LayerCost("second", "w1", 0.5, 1.25, ("second",)), LayerCost("first", "w0", 0.5, 0.01, ("first",)))
    choice = Choice({"step": ("first",)}, {"step": ("second",)}, 30.0, 29.99, (("", 1.26), ("second", 0.01)))
    text = io.StringIO()

    Console(file=text, width=120).print(cost_table("spiked", costs, choice))
    write_report(tmp_path / "report.json", costs, choice)

    lines = text.getvalue().splitlines()
    assert any("second" in line and "+1.2500" in line and "float32" in line for line in lines)
    assert any("30.000 dB in float32, 29.990 dB in INT8: 0.010 dB lost" in line for line in lines)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["layers"][0]["layer"] == "second"
    assert report["choice"]["loss_db"] == pytest.approx(0.01)
