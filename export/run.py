"""`relume-build export`: every graph of a network through every precision and builder asked for, and a table of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import onnx
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from export.engine import Flavour, build_engine
from export.fixed import fix_dimensions
from export.graph import Graph, export_graph, random_inputs
from export.graphs import make_graphs
from export.half import convert_to_half
from export.imports import read_state
from export.tiles import Tile, random_tiles, real_tiles
from models.published import CheckpointError, load_published
from models.registry import REGISTRY, Entry
from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession
from runtime.manifest import Model, find_model

PRECISIONS = ("fp32", "fp16")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export; `engines` are builders with what they build for: `rtx:sm86`, `tensorrt`."""

    model: str
    precisions: tuple[str, ...]
    size: tuple[int, int]
    output: Path
    frames: int | None = None
    steps: bool = False
    checkpoint: Path | None = None
    clip: Path | None = None
    tiles: int = 100
    engines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    part: str
    kind: str
    agreement: str
    size_bytes: int
    operations: str
    time_s: float


def run_export(request: ExportRequest, *, console: Console | None = None) -> list[Row]:
    """Export, convert and build; show progress and a table.

    Raises:
        ValueError: The request names a precision or an engine that there is not.
        UnknownNetworkError: There is no such network.
        RuntimeError: A gate failed; what passed before it is kept.
    """
    targets = [_target(name) for name in request.engines]
    unknown = set(request.precisions) - set(PRECISIONS)
    if unknown or not request.precisions:
        raise ValueError(f"got --precision {','.join(request.precisions)}; expected one or both of fp32, fp16")
    entry = REGISTRY.find(request.model)
    network = build_network(entry, request.checkpoint)
    graphs = make_graphs(entry, network, size=request.size, frames=request.frames, steps=request.steps)
    request.output.mkdir(parents=True, exist_ok=True)
    console = console or Console()
    rows: list[Row] = []
    try:
        for graph in graphs:
            for row in _export_one(graph, request, targets, console):
                rows.append(row)
    finally:
        if rows:
            weights = request.checkpoint.name if request.checkpoint else "random weights, for the export alone"
            console.print(_table(f"{request.model} ({weights})", rows))
    return rows


def build_network(entry: Entry, checkpoint: Path | None) -> nn.Module:
    """Build a network with a checkpoint's weights; without one with seeded random ones, to try the export alone.

    Raises:
        CheckpointError: The checkpoint is of another network.
    """
    torch.manual_seed(0)
    network = entry.build().eval()
    if checkpoint is None:
        return network
    state = read_state(checkpoint)
    if state.keys() == network.state_dict().keys():
        network.load_state_dict(state)
    elif entry.published is not None:
        load_published(network, state, entry.published.table, optional=entry.published.optional)
    else:
        raise CheckpointError(f"{checkpoint} is not of {entry.name}, and there is no rename table for it")
    return network


def _export_one(
    graph: Graph, request: ExportRequest, targets: list[tuple[Flavour, str | None]], console: Console
) -> Iterator[Row]:
    stem = f"{request.model}-{graph.role}"
    exact = request.output / f"{stem}.fp32.onnx"
    console.print(f"{stem}: to ONNX ...")
    written = export_graph(graph, exact)
    yield Row(
        graph.role, "fp32", f"{written.parity:.1e} of peak", written.size_bytes, str(written.nodes), written.time_s
    )
    files = {"fp32": exact}
    if "fp16" in request.precisions:
        half = request.output / f"{stem}.fp16.onnx"
        console.print(f"{stem}: to float16 ...")
        converted = convert_to_half(exact, half, _tiles(graph, request))
        agreement = f"{converted.psnr_db:.1f} dB, worst of {converted.tiles}"
        operations = f"{converted.nodes}, {converted.islands} in fp32"
        yield Row(graph.role, "fp16", agreement, converted.size_bytes, operations, converted.time_s)
        files["fp16"] = half
    for precision in request.precisions:
        for flavour, capability in targets:
            console.print(f"{stem}: {precision} engine for {capability or 'this GPU'} ...")
            source = files[precision]
            target = source.with_suffix(f".{flavour}-{capability or 'native'}.engine")
            built = build_engine(source, target, flavour=flavour, capability=capability)
            kind = f"{precision} {flavour} {built.version} {built.target}"
            yield Row(graph.role, kind, "built, not run", built.size_bytes, "", built.time_s)


def _tiles(graph: Graph, request: ExportRequest) -> Iterator[Tile]:
    drawn = random_tiles(graph.inputs, request.tiles)
    if request.clip is None or not any(len(shape) >= 4 and shape[-3] in (3, 4) for shape in graph.inputs.values()):
        return drawn
    return chain(drawn, real_tiles(graph.inputs, request.clip, request.tiles))


def _target(name: str) -> tuple[Flavour, str | None]:
    flavour, _, capability = name.partition(":")
    if flavour not in set(Flavour):
        raise ValueError(f"got --engine {name}; expected {' or '.join(Flavour)}, with what to build for: rtx:sm86")
    return Flavour(flavour), capability or None


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title)
    for heading in ("part", "file", "agreement", "MB", "operations", "s"):
        table.add_column(heading, justify="right" if heading in ("MB", "s") else "left")
    for row in rows:
        size, time_s = f"{row.size_bytes / 1e6:.1f}", f"{row.time_s:.1f}"
        table.add_row(row.part, row.kind, row.agreement, size, row.operations, time_s)
    return table


def run_shipped(
    name: str,
    dimensions: dict[str, int],
    *,
    output: Path,
    engines: tuple[str, ...] = (),
    tiles: int = 100,
    console: Console | None = None,
) -> list[Row]:
    """Convert a shipped model's step at fixed sizes to float16 and build engines of both precisions.

    Raises:
        ManifestError: There is no such model.
        ValueError: A named dimension has no size.
        RuntimeError: A gate failed.
    """
    targets = [_target(engine) for engine in engines]
    model = find_model(name)
    output.mkdir(parents=True, exist_ok=True)
    exact, half = output / f"{name}.fp32.onnx", output / f"{name}.fp16.onnx"
    fix_dimensions(model.file(), exact, dimensions)
    rows = []
    converted = convert_to_half(exact, half, islice(shipped_tiles(model, exact), tiles))
    agreement = f"{converted.psnr_db:.1f} dB, worst of {converted.tiles}"
    rows.append(Row("step", "fp16", agreement, converted.size_bytes, str(converted.nodes), converted.time_s))
    for source in (exact, half):
        for flavour, capability in targets:
            built = build_engine(
                source,
                source.with_suffix(f".{flavour}-{capability or 'native'}.engine"),
                flavour=flavour,
                capability=capability,
            )
            kind = f"{source.stem.rpartition('.')[2]} {flavour} {built.version} {built.target}"
            rows.append(Row("step", kind, "built, not run", built.size_bytes, "", built.time_s))
    (console or Console()).print(_table(name, rows))
    return rows


def shipped_tiles(model: Model, path: Path) -> Iterator[Tile]:
    """Give noise with the states as they are where a stream begins, then as the model made them of it."""
    shapes = file_shapes(path)
    states = {state.input: state.output for state in model.manifest.states}
    carried = {name: np.zeros(shapes[name], np.float32) for name in states}
    with OnnxRuntimeCpuSession(path, dimensions={}, precision="fp32", threads=1) as session:
        for seed in count():
            tile = random_inputs(shapes, seed) | carried
            yield tile
            made = session.run(tile)
            carried = {name: made[output] for name, output in states.items()}


def file_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Give the shapes of a file's inputs."""
    values = onnx.load(path).graph.input
    return {value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim) for value in values}
