"""FP32 to INT8 by Q/DQ, and the checks that a converted file must pass.

The loss of a shipped model is measured against the ground truth of real clips (`calibration`), that of other networks
as the signal-to-noise ratio against float32.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.int8.layers import find_layers, worth_quantising
from export.int8.qdq import quantise_graph
from export.int8.ranges import CalibrationError, Ranges, Tensors, file_digest, load_ranges, measure_ranges
from export.onnx_export import run_with_outputs, set_static_shapes
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.manifest import Model, QuantScheme

GATE_DB = 0.15
"""Largest loss of PSNR-Y against float32."""


CALIBRATION_TILES = 16


class Int8Error(RuntimeError):
    """An INT8 file with NaN or infinite values, or with a loss above its gate."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """The result of a conversion; `snr_db` is that of the worst output of the worst tile against float32."""

    path: Path
    snr_db: float
    tiles: int
    layers: tuple[str, ...]
    in_float: tuple[str, ...]
    nodes: int
    size_bytes: int
    time_s: float


def write_int8(
    source: Path,
    target: Path,
    ranges: Ranges,
    *,
    layers: Collection[str] | None = None,
    scheme: QuantScheme = QuantScheme.ASYMMETRIC_U8,
) -> tuple[str, ...]:
    """Write an INT8 file; return the names of its quantised layers.

    Args:
        source: The float32 file that the ranges were measured on.
        target: Path of the INT8 file; named dimensions are kept, inputs and outputs stay float32.
        ranges: From `measure_ranges`.
        layers: Names of the nodes to quantise; None for those with enough operations.
        scheme: Of the file.

    Raises:
        CalibrationError: The ranges belong to another file.
        Int8Error: No layer can be quantised.
    """
    if ranges.source != file_digest(source):
        raise CalibrationError(f"the ranges belong to another version of {source.name}; calibrate it again")
    model = onnx.load(source)
    chosen = tuple(layers) if layers is not None else worth_quantising(find_layers(model))
    if not chosen:
        raise Int8Error(f"{source.name} has no layer to quantise; remove int8 from --precision")
    onnx.save(quantise_graph(model, ranges.values, chosen, scheme=scheme), target)
    return chosen


def convert_to_int8(
    source: Path,
    target: Path,
    ranges: Ranges,
    tiles: Iterable[Tensors],
    *,
    scheme: QuantScheme = QuantScheme.ASYMMETRIC_U8,
    least_snr_db: float | None = None,
) -> Quantised:
    """Write an INT8 file and compare it with float32.

    Args:
        source: A float32 ONNX file of fixed sizes.
        target: Path of the INT8 file.
        ranges: Of `source`.
        tiles: Inputs for the comparison.
        scheme: Of the file.
        least_snr_db: SNR that every output of every tile must reach; None for any finite result.

    Raises:
        Int8Error: A value is not finite, or an output is worse; the message names the layer that differs most. No file
            is left.
    """
    started = time.monotonic()
    chosen = write_int8(source, target, ranges, scheme=scheme)
    in_float = tuple(layer.name for layer in find_layers(onnx.load(source)) if layer.name not in chosen)
    return _checked(source, target, tiles, chosen, in_float, least_snr_db, started)


def convert_schemes(
    source: Path, tiles: Callable[[], Iterable[Tensors]], *, count: int
) -> dict[QuantScheme, Quantised]:
    """Calibrate a file on some of its tiles, then write both schemes beside it and compare them.

    Args:
        source: A float32 ONNX file of fixed sizes, named `... .fp32.onnx`.
        tiles: Returns a new iterator over the tiles.
        count: Number of tiles; some of them, evenly spaced, are used for calibration.

    Raises:
        Int8Error: A value is not finite; that scheme has no file.
    """
    stem = source.name.removesuffix(".onnx").removesuffix(".fp32")
    samples = islice(tiles(), 0, None, max(1, count // CALIBRATION_TILES))
    ranges = measure_ranges(source, samples)
    ranges.save(source.with_name(f"{stem}.calibration.json"))
    names = {scheme: source.with_name(f"{stem}.int8-{scheme}.onnx") for scheme in QuantScheme}
    return {scheme: convert_to_int8(source, target, ranges, tiles(), scheme=scheme) for scheme, target in names.items()}


def convert_shipped(
    model: Model, exact: Path, target: Path, dimensions: Mapping[str, int], tiles: Iterable[Tensors]
) -> Quantised:
    """Write the symmetric scheme of a shipped model's step, with its shipped ranges and choice of layers.

    Args:
        model: A model with an INT8 step.
        exact: Its float32 step at these sizes, for the comparison.
        target: Path of the file.
        dimensions: A size for every named dimension.
        tiles: Inputs to compare on.

    Raises:
        CalibrationError: The model has no INT8 files, or its ranges do not match its manifest.
        Int8Error: A value is not finite; no file is left.
    """
    started = time.monotonic()
    calibration = next((file.calibration for file in model.manifest.files if file.calibration is not None), None)
    if calibration is None:
        raise CalibrationError(f"{model.manifest.name} has no int8 step; create one with relume-build calibrate")
    ranges = load_ranges(model.folder / calibration.path)
    if ranges.digest != calibration.digest:
        raise CalibrationError(f"{model.folder / calibration.path} does not match the manifest; restore it")
    layers = [layer.name for layer in find_layers(onnx.load(model.file()))]
    chosen = write_int8(
        model.file(),
        target,
        ranges,
        layers=[name for name in layers if name not in calibration.in_float],
        scheme=QuantScheme.SYMMETRIC_S8,
    )
    set_static_shapes(target, target, dimensions)
    return _checked(exact, target, tiles, chosen, calibration.in_float, None, started)


def find_worst_layer(reference: Path, candidate: Path, tile: Tensors, layers: Collection[str]) -> tuple[str, float]:
    """Return the first layer with the lowest SNR against float32, and its SNR in dB."""
    outputs = {node.name: node.output[0] for node in onnx.load(reference).graph.node if node.name in layers}
    names = list(outputs.values())
    found = [run_with_outputs(path, names, tile) for path in (reference, candidate)]
    ratios = {layer: snr(found[0][name], found[1][name]) for layer, name in outputs.items()}
    worst = min(ratios, key=lambda layer: ratios[layer])
    return worst, ratios[worst]


def snr(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the signal-to-noise ratio in dB; minus infinity where a value is not finite."""
    if not np.isfinite(found).all():
        return float("-inf")
    signal, noise = (float(np.mean(value.astype(np.float64) ** 2)) for value in (expected, found - expected))
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-30) / noise))


def _checked(
    source: Path,
    target: Path,
    tiles: Iterable[Tensors],
    layers: tuple[str, ...],
    in_float: tuple[str, ...],
    least_snr_db: float | None,
    started: float,
) -> Quantised:
    """Compare a new file with float32, and delete it if it fails."""
    try:
        snr_db, count = _compare(source, target, tiles, layers, least_snr_db)
    except Int8Error:
        target.unlink()
        raise
    nodes, size = len(onnx.load(target).graph.node), target.stat().st_size
    return Quantised(target, snr_db, count, layers, in_float, nodes, size, time.monotonic() - started)


def _compare(
    source: Path, target: Path, tiles: Iterable[Tensors], layers: Collection[str], least_snr_db: float | None
) -> tuple[float, int]:
    worst, count = float("inf"), 0
    opened: Callable[..., OnnxRuntimeCpuSession] = OnnxRuntimeCpuSession
    with (
        opened(source, dimensions={}, precision="fp32", threads=1) as exact,
        opened(target, dimensions={}, precision="int8", threads=1) as rounded,
    ):
        for tile in tiles:
            expected, found = exact.run(tile), rounded.run(tile)
            for name, value in expected.items():
                ratio = snr(value, found[name])
                if ratio == float("-inf") or (least_snr_db is not None and ratio < least_snr_db):
                    layer, its_db = find_worst_layer(source, target, tile, layers)
                    raise Int8Error(
                        f"{target.name}: output {name} of tile {count} has {ratio:.1f} dB against float32, expected "
                        f"{'finite values' if least_snr_db is None else f'{least_snr_db:g} dB'}; the layer that "
                        f"differs most is {layer} ({its_db:.1f} dB): keep it in float"
                    )
                worst = min(worst, ratio)
            count += 1
    return worst, count
