"""INT8 files of every kind of network are finite, close to float32, and build; failures are discarded."""

from functools import partial

import numpy as np
import onnx
import pytest

from export.comparison_inputs import random_tiles
from export.engine_builders import build_engine, has_builder
from export.int8.convert import Int8Error, convert_schemes, convert_to_int8, find_worst_layer, snr, write_int8
from export.int8.layers import find_layers
from export.int8.ranges import CalibrationError, measure_ranges
from runtime.engine.device import EngineType
from runtime.manifest import QuantScheme

SMALL = ("unet-clean", "sr-unet", "rvrt-align", "rvrt-group")
OTHERS = ("basicvsr-flow", "basicvsr-backward", "basicvsr-reconstruction", "realbasicvsr-clean")
CAPABILITIES = ("sm86", "sm89", "sm120")


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_every_kind_of_network_has_both_forms(exported_graphs, tmp_path, name: str) -> None:
    graph, exported = exported_graphs[name]
    source = tmp_path / f"{name}.fp32.onnx"
    source.write_bytes(exported.path.read_bytes())

    made = convert_schemes(source, partial(random_tiles, graph.inputs, 2), count=2)

    assert {scheme: result.path.name for scheme, result in made.items()} == {
        QuantScheme.ASYMMETRIC_U8: f"{name}.int8-cpu.onnx",
        QuantScheme.SYMMETRIC_S8: f"{name}.int8-tensorrt.onnx",
    }
    for result in made.values():
        assert result.snr_db > 15
        assert result.tiles == 2
        stored = {tensor.name: tensor.data_type for tensor in onnx.load(result.path).graph.initializer}
        assert sum(kind == onnx.TensorProto.INT8 for kind in stored.values()) >= len(result.layers)
    if has_builder(EngineType.RTX):
        for capability in CAPABILITIES if name == "sr-unet" else CAPABILITIES[:1]:
            target = tmp_path / f"{capability}.engine"
            assert build_engine(made[QuantScheme.SYMMETRIC_S8].path, target, capability=capability).size_bytes > 1000


@pytest.fixture
def cleaning(exported_graphs, tmp_path):
    """A network's float32 file, its ranges, and some of its inputs."""
    graph, exported = exported_graphs["realbasicvsr-clean"]
    source = tmp_path / "clean.fp32.onnx"
    source.write_bytes(exported.path.read_bytes())
    tiles = list(random_tiles(graph.inputs, 2))
    return source, measure_ranges(source, tiles), tiles


def test_what_misses_its_gate_is_not_kept_and_names_a_layer(cleaning, tmp_path) -> None:
    source, ranges, tiles = cleaning
    target = tmp_path / "clean.int8.onnx"

    with pytest.raises(Int8Error, match=r"has [\d.]+ dB against float32, expected 90 dB; the layer that") as refused:
        convert_to_int8(source, target, ranges, tiles, least_snr_db=90)

    assert not target.exists()
    assert any(layer.name in str(refused.value) for layer in find_layers(onnx.load(source)))


def test_what_is_not_finite_is_not_kept(cleaning, tmp_path) -> None:
    source, ranges, tiles = cleaning
    broken = {name: np.full_like(value, np.nan) for name, value in tiles[0].items()}
    target = tmp_path / "clean.int8.onnx"

    with pytest.raises(Int8Error, match=r"of tile 1 has -inf dB against float32, expected finite values"):
        convert_to_int8(source, target, ranges, [tiles[0], broken])

    assert not target.exists()


def test_the_layer_that_was_quantised_worst_is_named(cleaning, tmp_path) -> None:
    source, ranges, tiles = cleaning
    layers = find_layers(onnx.load(source))
    spoiled = layers[2]
    low, high = ranges.values[spoiled.activation]
    coarse = type(ranges)(
        ranges.source,
        ranges.method,
        ranges.samples,
        ranges.clips,
        {**ranges.values, spoiled.activation: (200 * low, 200 * high)},
    )
    target = tmp_path / "clean.int8.onnx"
    write_int8(source, target, coarse, layers=[layer.name for layer in layers[:3]])

    assert find_worst_layer(source, target, tiles[0], [layer.name for layer in layers[:3]])[0] == spoiled.name


def test_ranges_of_another_file_are_refused(cleaning, tmp_path) -> None:
    source, ranges, _ = cleaning
    model = onnx.load(source)
    model.doc_string = "altered"
    onnx.save(model, source)

    with pytest.raises(CalibrationError, match=r"the ranges belong to another version of clean\.fp32\.onnx"):
        write_int8(source, tmp_path / "clean.int8.onnx", ranges)

    assert not (tmp_path / "clean.int8.onnx").exists()


def test_signal_to_noise() -> None:
    signal = np.array([3.0, -4.0], np.float32)

    assert snr(signal, signal) == float("inf")
    assert snr(signal, signal * np.float32(1.1)) == pytest.approx(20, abs=1e-3)
    assert snr(signal, np.array([np.nan, 0], np.float32)) == float("-inf")
