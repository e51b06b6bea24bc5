"""FP32 to FP16 with FP32 exclusions, and the checks that a converted file must pass.

Engines are strongly typed, so the precision is stored in the file. Nodes that need more than 11 bits stay in FP32:
norms and softmax; the computation of positions, from the last convolution to the GridSample or gather; the inputs of a
recurrence; a logarithm together with the transform before it.
"""

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from export.comparison_inputs import graph_tiles
from export.fp16.graph import rewrite_to_fp16
from export.networks import file_graph, named_sizes
from export.onnx_export import random_inputs
from export.zoo import enter_files, file_entry
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.manifest import Model

GATE_DB = 50.0
RUNS_DB = 30.0
"""For the file itself, to check that it computes the same network; the gate uses an emulation."""
FP32_OPERATORS = frozenset(
    (
        "GridSample",
        "GroupNormalization",
        "GRU",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LSTM",
        "Range",
        "ReduceMean",
        "ReduceSum",
        "Resize",
        "Softmax",
        "Sqrt",
    )
)
"""Resize has float32 scales and is cheap. The state of an LSTM accumulates errors over thousands of steps."""
COMPUTE = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
RECURRENCES = frozenset(("GRU", "LSTM"))


class Fp16Error(RuntimeError):
    """A converted file differs too much from its source."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The result of a conversion; PSNR vs FP32 of the worst tile."""

    path: Path
    psnr_db: float
    tiles: int
    fp32_nodes: int
    nodes: int
    size_bytes: int
    time_s: float


def convert_to_fp16(
    source: Path,
    target: Path,
    tiles: Iterable[dict[str, NDArray[np.float32]]],
    *,
    dimensions: Mapping[str, int] | None = None,
    gate_db: float = GATE_DB,
    stream: bool = False,
) -> Converted:
    """Convert a file and check it against the original.

    Args:
        source: A float32 ONNX file.
        target: Path of the float16 file; its inputs and outputs stay float32.
        tiles: Inputs to compare on, random and real.
        dimensions: Sizes of the file's named dimensions while it is compared.
        gate_db: PSNR vs FP32, relative to the peak, that every tile must reach in emulation (`fp16.graph`).
        stream: The tiles are blocks of a signal of unit level; see `compare_files`.

    Raises:
        Fp16Error: A value is not finite, or a tile is worse; no file is left.
    """
    started = time.monotonic()
    model = onnx.load(source)
    fp32_nodes = find_fp32_nodes(model)
    half = rewrite_to_fp16(model, fp32_nodes)
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, target)
    emulated = target.with_suffix(".emulated.onnx")
    onnx.save(rewrite_to_fp16(model, fp32_nodes, emulated=True), emulated)
    try:
        psnr_db, count = compare_files(source, emulated, tiles, dimensions=dimensions, gate_db=gate_db, stream=stream)
        # Emulation does not show that the file itself opens and runs.
        compare_files(source, target, [_noise(source, dimensions or {})], dimensions=dimensions, gate_db=RUNS_DB)
    except Fp16Error:
        target.unlink()
        raise
    finally:
        emulated.unlink()
    size = target.stat().st_size
    return Converted(target, psnr_db, count, len(fp32_nodes), len(half.graph.node), size, time.monotonic() - started)


def compare_files(
    reference: Path,
    candidate: Path,
    tiles: Iterable[dict[str, NDArray[np.float32]]],
    *,
    dimensions: Mapping[str, int] | None = None,
    gate_db: float,
    stream: bool = False,
) -> tuple[float, int]:
    """Run both files on every tile; return the worst PSNR and the number of tiles.

    A frame is compared relative to its own peak. A block of a stream may be a pause: with `stream` the worst block of
    an output is compared relative to its peak over all blocks.

    Raises:
        Fp16Error: A value is not finite, or a tile is below the gate.
    """
    found_peaks: dict[str, float] = {}
    errors: dict[str, tuple[float, int]] = {}
    worst, count = float("inf"), 0
    with (
        OnnxRuntimeCpuSession(reference, dimensions=dimensions or {}, precision="fp32", threads=1) as exact,
        OnnxRuntimeCpuSession(candidate, dimensions=dimensions or {}, precision="fp16", threads=1) as rounded,
    ):
        for tile in tiles:
            expected, found = exact.run(tile), rounded.run(tile)
            for name, value in expected.items():
                if not np.isfinite(found[name]).all():
                    raise Fp16Error(f"{candidate.name}: output {name} of tile {count} has NaN or infinite values")
                error = float(np.mean((value.astype(np.float64) - found[name]) ** 2))
                peak = float(np.abs(value).max())
                if stream:
                    found_peaks[name] = max(found_peaks.get(name, 0.0), peak)
                    errors[name] = max(errors.get(name, (0.0, 0)), (error, count))
                else:
                    worst = min(worst, _gate(candidate, name, count, _psnr(error, peak), gate_db))
            count += 1
    for name, (error, block) in errors.items():
        worst = min(worst, _gate(candidate, name, block, _psnr(error, found_peaks[name]), gate_db))
    return worst, count


def _gate(candidate: Path, name: str, tile: int, psnr_db: float, gate_db: float) -> float:
    if psnr_db < gate_db:
        raise Fp16Error(
            f"{candidate.name}: output {name} of tile {tile} has {psnr_db:.1f} dB against float32, expected "
            f"{gate_db:g} dB; keep more nodes in float32"
        )
    return psnr_db


def find_fp32_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that stay in float32."""
    maker = {output: node for node in model.graph.node for output in node.output}
    fp32_nodes = {node.name for node in model.graph.node if node.op_type in FP32_OPERATORS}
    for node in model.graph.node:
        if node.op_type == "GridSample":
            fp32_nodes |= _back(maker, node.input[1:2])
        elif node.op_type == "Cast" and _casts_to_integer(node):
            fp32_nodes |= _back(maker, node.input)
        elif node.op_type in RECURRENCES:
            # TensorRT for RTX 1.7 fails to build one whose sequence is cast on the way from the layer before it.
            fp32_nodes |= _back(maker, (node.input[0], *node.input[5:7]))
        elif node.op_type == "Log":
            # The square of a spectrum overflows, and in the transform a loud bin's rounding drowns the quiet ones.
            fp32_nodes |= _back(maker, node.input, layers=1)
    return fp32_nodes


def _back(maker: Mapping[str, onnx.NodeProto], names: Iterable[str], *, layers: int = 0) -> set[str]:
    """Return the nodes that compute values, back to a GridSample or a layer, after passing `layers` layers."""
    found: set[str] = set()
    seen: set[tuple[str, int]] = set()
    waiting = [(name, layers) for name in names]
    while waiting:
        name, left = waiting.pop()
        made = maker.get(name)
        if made is None or (name, left) in seen or made.op_type == "GridSample":
            continue
        seen.add((name, left))
        if made.op_type in COMPUTE:
            if left == 0:
                continue
            left -= 1
        found.add(made.name)
        waiting.extend((name, left) for name in made.input)
    return found


def _noise(path: Path, dimensions: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
    """Return noise for every input of a file."""
    with OnnxRuntimeCpuSession(path, dimensions=dimensions, precision="fp32", threads=1) as session:
        return random_inputs({binding.name: binding.shape for binding in session.inputs}, 0)


def _casts_to_integer(node: onnx.NodeProto) -> bool:
    kinds = {attribute.i for attribute in node.attribute if attribute.name == "to"}
    return bool(kinds & {TensorProto.INT32, TensorProto.INT64})


def _psnr(error: float, peak: float) -> float:
    """Return the PSNR of a mean squared error."""
    return float("inf") if error == 0 else 10 * float(np.log10(max(peak, 1e-6) ** 2 / error))


def add_fp16(
    model: Model,
    *,
    tiles: int = 100,
    clips: Sequence[Path] = (),
    audios: Sequence[Path] = (),
    gate_db: float = GATE_DB,
) -> dict[str, Converted]:
    """Convert every float32 file of a model, check each, and enter them in the manifest, all or none.

    Args:
        model: Of any zoo; its folder is changed. Named dimensions are kept.
        tiles: Number of random tiles, and of real ones from `clips` or, for speech, from `audios`.
        clips: Videos.
        audios: Recordings.
        gate_db: PSNR that every tile must reach.

    Returns:
        The conversions by the role of the file.

    Raises:
        Fp16Error: A file misses the gate; nothing is entered.
    """
    made: dict[str, Converted] = {}
    with tempfile.TemporaryDirectory(dir=model.folder, prefix=".fp16-") as name:
        folder = Path(name)
        for file in model.manifest.files:
            if file.precision != "fp32":
                continue
            graph, fixed = file_graph(model, file.role, folder)
            made[file.role] = convert_to_fp16(
                model.file(role=file.role),
                folder / f"{file.role}.fp16.onnx",
                graph_tiles(graph, fixed, tiles, clips=clips, audios=audios),
                dimensions=named_sizes(model),
                gate_db=gate_db,
                stream=graph.audio is not None and bool(graph.states),
            )
        for converted in made.values():
            converted.path.replace(model.folder / converted.path.name)
    enter_files(model, [file_entry(model.folder, role, "fp16") for role in made])
    return made
