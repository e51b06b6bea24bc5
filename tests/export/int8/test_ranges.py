"""Activation ranges are those of the samples, and their file's digest identifies them."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8.ranges import CalibrationError, Method, load_ranges, measure_ranges

WEIGHT = np.array([[[[2.0]]], [[[-1.0]]]], np.float32)


@pytest.fixture
def source(tmp_path):
    """A 1x1 convolution with open sides, whose outputs are 2 and -1 times its input."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["twice"], name="conv"),
            helper.make_node("Relu", ["twice"], ["y"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, "height", "width"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, "height", "width"))],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def samples(*sizes):
    generator = np.random.default_rng(3)
    return [{"x": generator.normal(0, 1, (1, 1, *size)).astype(np.float32)} for size in sizes]


def test_extremes_are_those_of_all_samples_whatever_their_size(source):
    given = samples((8, 8), (5, 9), (8, 8), (3, 3), (8, 8), (7, 7))

    ranges = measure_ranges(source, iter(given), clips=("one.mp4",))

    every = np.concatenate([sample["x"].ravel() for sample in given])
    assert ranges.values["x"] == pytest.approx((every.min(), every.max()))
    low, high = min((2 * every).min(), (-every).min()), max((2 * every).max(), (-every).max())
    assert ranges.values["twice"] == pytest.approx((low, high))
    assert (ranges.samples, ranges.clips) == (6, ("one.mp4",))


def test_zero_is_always_inside(source):
    ranges = measure_ranges(source, [{"x": np.full((1, 1, 4, 4), 3, np.float32)}])

    assert ranges.values["x"] == (0, 3)


@pytest.mark.parametrize("method", [Method.PERCENTILE, Method.ENTROPY])
def test_what_is_rare_is_left_out(source, method):
    given = samples(*[(100, 100)] * 5)
    given[2]["x"][0, 0, 4, 4] = 1000.0

    low, high = measure_ranges(source, given, method=method).values["x"]

    assert -1000 < low < -1
    assert 1 < high < 1000


def test_the_file_is_read_back_and_its_digest_identifies_it(source, tmp_path):
    ranges = measure_ranges(source, samples((8, 8)), clips=("one.mp4", "two.mp4"))
    ranges.save(tmp_path / "ranges.json")

    again = load_ranges(tmp_path / "ranges.json")

    assert again == ranges
    assert again.digest == ranges.digest
    wider = replace(ranges, values={**ranges.values, "x": (-9.0, 9.0)})
    assert wider.digest != ranges.digest


def test_no_samples_are_refused(source):
    with pytest.raises(CalibrationError, match="there are no samples to calibrate with; choose clips"):
        measure_ranges(source, [])


def test_what_is_not_finite_is_refused(source):
    with pytest.raises(CalibrationError, match="expected finite values"):
        measure_ranges(source, [{"x": np.full((1, 1, 4, 4), np.inf, np.float32)}])


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"source": "x", "ranges": {"x": [1]}})])
def test_another_file_is_no_ranges(tmp_path, text):
    path = tmp_path / "ranges.json"
    path.write_text(text)

    with pytest.raises(CalibrationError, match="has no activation ranges"):
        load_ranges(path)
