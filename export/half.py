"""FP32 to FP16 with float32 islands, and the gates that a converted file must pass.

Engines are strongly typed, so the precision lies in the file. Islands are what loses too much in 11 bits: norms and
softmax, and everything that computes positions, from the last convolution before it to the GridSample or the gather.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from export.graph import random_inputs
from export.half_graph import rewrite_to_half
from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession

GATE_DB = 50.0
ISLANDS = frozenset(
    (
        "GridSample",
        "GroupNormalization",
        "GRU",
        "InstanceNormalization",
        "LayerNormalization",
        "LSTM",
        "Range",
        "ReduceMean",
        "ReduceSum",
        "Resize",
        "Softmax",
        "Sqrt",
    )
)
"""Resize keeps its scales in float32 and costs next to nothing. LSTM: its state adds up over thousands of steps."""
COMPUTE = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


class HalfPrecisionError(RuntimeError):
    """A converted file gives other pictures than the one that it was made of."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion made; the PSNR is that of the worst tile."""

    path: Path
    psnr_db: float
    tiles: int
    islands: int
    nodes: int
    size_bytes: int
    time_s: float


def convert_to_half(
    source: Path,
    target: Path,
    tiles: Iterable[dict[str, NDArray[np.float32]]],
    *,
    dimensions: Mapping[str, int] | None = None,
    gate_db: float = GATE_DB,
) -> Converted:
    """Convert a file and check it against the original.

    Args:
        source: A float32 ONNX file.
        target: Where the float16 one goes; inputs and outputs stay float32.
        tiles: Inputs to compare on, random and real.
        dimensions: Sizes of the file's named dimensions while it is compared.
        gate_db: PSNR over the reference's peak that every tile must reach, in emulation (`half_graph`).

    Raises:
        HalfPrecisionError: A value is not finite, or a tile is worse; no file is left.
    """
    started = time.monotonic()
    model = onnx.load(source)
    islands = find_islands(model)
    half = rewrite_to_half(model, islands)
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, target)
    emulated = target.with_suffix(".emulated.onnx")
    onnx.save(rewrite_to_half(model, islands, emulated=True), emulated)
    try:
        psnr_db, count = compare_files(source, emulated, tiles, dimensions=dimensions, gate_db=gate_db)
        # Emulation does not show whether the file itself opens and runs.
        compare_files(source, target, [_noise(source, dimensions or {})], dimensions=dimensions, gate_db=gate_db)
    except HalfPrecisionError:
        target.unlink()
        raise
    finally:
        emulated.unlink()
    size = target.stat().st_size
    return Converted(target, psnr_db, count, len(islands), len(half.graph.node), size, time.monotonic() - started)


def compare_files(
    reference: Path,
    candidate: Path,
    tiles: Iterable[dict[str, NDArray[np.float32]]],
    *,
    dimensions: Mapping[str, int] | None = None,
    gate_db: float,
) -> tuple[float, int]:
    """Run both files on every tile; give the worst PSNR and the number of tiles.

    Raises:
        HalfPrecisionError: A value is not finite, or a tile is below the gate.
    """
    worst, count = float("inf"), 0
    with (
        OnnxRuntimeCpuSession(reference, dimensions=dimensions or {}, precision="fp32", threads=1) as exact,
        OnnxRuntimeCpuSession(candidate, dimensions=dimensions or {}, precision="fp16", threads=1) as rounded,
    ):
        for tile in tiles:
            expected, found = exact.run(tile), rounded.run(tile)
            for name, value in expected.items():
                if not np.isfinite(found[name]).all():
                    raise HalfPrecisionError(
                        f"{candidate.name}: output {name} of tile {count} has values that are not finite"
                    )
                psnr_db = _psnr(value, found[name])
                if psnr_db < gate_db:
                    raise HalfPrecisionError(
                        f"{candidate.name}: output {name} of tile {count} has {psnr_db:.1f} dB against float32, "
                        f"expected {gate_db:g} dB; keep more of it in float32"
                    )
                worst = min(worst, psnr_db)
            count += 1
    return worst, count


def find_islands(model: onnx.ModelProto) -> set[str]:
    """Name the nodes that stay in float32."""
    maker = {output: node for node in model.graph.node for output in node.output}
    islands = {node.name for node in model.graph.node if node.op_type in ISLANDS}
    waiting = []
    for node in model.graph.node:
        if node.op_type == "GridSample":
            waiting.append(node.input[1])
        elif node.op_type == "Cast" and _casts_to_integer(node):
            waiting.append(node.input[0])
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        made = maker.get(name)
        if name in seen or made is None or made.op_type in COMPUTE or made.op_type == "GridSample":
            continue
        seen.add(name)
        islands.add(made.name)
        waiting.extend(made.input)
    return islands


def _noise(path: Path, dimensions: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
    """Give noise for every input of a file."""
    with OnnxRuntimeCpuSession(path, dimensions=dimensions, precision="fp32", threads=1) as session:
        return random_inputs({binding.name: binding.shape for binding in session.inputs}, 0)


def _casts_to_integer(node: onnx.NodeProto) -> bool:
    kinds = {attribute.i for attribute in node.attribute if attribute.name == "to"}
    return bool(kinds & {TensorProto.INT32, TensorProto.INT64})


def _psnr(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    error = float(np.mean((expected.astype(np.float64) - found) ** 2))
    peak = max(float(np.abs(expected).max()), 1e-6)
    return float("inf") if error == 0 else 10 * float(np.log10(peak**2 / error))
