"""`relume-build export` and `build-zoo`: convert graphs to the requested precisions and engines."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.comparison_inputs import Tile, graph_tiles, random_tiles, stream_tiles
from export.engine_builders import build_engine, find_target
from export.fp16.convert import convert_to_fp16
from export.int8.convert import Quantised, convert_schemes, convert_shipped
from export.networks import build_network, make_graphs
from export.onnx_export import Graph, export_graph, file_shapes, set_static_shapes
from models.registry import REGISTRY
from runtime.engine.device import EngineType
from runtime.manifest import Model, QuantScheme, find_model

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export; `engines` are engine types with a compute capability: `rtx:sm86`, `tensorrt`."""

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
        ValueError: The request has an unknown precision or engine.
        UnknownNetworkError: There is no such network.
        RuntimeError: A check failed; earlier files are kept.
    """
    targets = [find_target(name) for name in request.engines]
    unknown = set(request.precisions) - set(PRECISIONS)
    if unknown or not request.precisions:
        raise ValueError(f"got --precision {','.join(request.precisions)}; expected some of fp32, fp16, int8")
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
            weights = request.checkpoint.name if request.checkpoint else "random weights, only to test the export"
            console.print(_table(f"{request.model} ({weights})", rows))
    return rows


def _export_one(
    graph: Graph, request: ExportRequest, targets: list[tuple[EngineType, str | None]], console: Console
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
        clips = (request.clip,) if request.clip is not None else ()
        tiles = graph_tiles(graph, exact, request.tiles, clips=clips)
        converted = convert_to_fp16(exact, half, tiles, stream=graph.audio is not None and bool(graph.states))
        agreement = f"{converted.psnr_db:.1f} dB, worst of {converted.tiles}"
        operations = f"{converted.nodes}, {converted.fp32_nodes} in fp32"
        yield Row(graph.role, "fp16", agreement, converted.size_bytes, operations, converted.time_s)
        files["fp16"] = half
    if "int8" in request.precisions:
        console.print(f"{stem}: to int8 ...")
        clips = (request.clip,) if request.clip is not None else ()
        schemes = convert_schemes(
            exact, partial(graph_tiles, graph, exact, request.tiles, clips=clips), count=request.tiles
        )
        for scheme, made in schemes.items():
            yield _int8_row(graph.role, scheme, made)
        files["int8"] = schemes[QuantScheme.SYMMETRIC_S8].path
    for precision in request.precisions:
        for engine_type, capability in targets:
            console.print(f"{stem}: {precision} engine for {capability or 'this GPU'} ...")
            source = files[precision]
            target = source.with_suffix(f".{engine_type}-{capability or 'native'}.engine")
            built = build_engine(source, target, engine_type=engine_type, capability=capability)
            kind = f"{precision} {engine_type} {built.version} {built.target}"
            yield Row(graph.role, kind, "built, not run", built.size_bytes, "", built.time_s)


def _int8_row(part: str, scheme: QuantScheme, made: Quantised) -> Row:
    operations = f"{made.nodes}, {len(made.in_float)} of {len(made.in_float) + len(made.layers)} layers in fp32"
    agreement = f"{made.snr_db:.1f} dB SNR, worst of {made.tiles}"
    return Row(part, f"int8 {scheme}", agreement, made.size_bytes, operations, made.time_s)


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title)
    for heading in ("part", "file", "parity or PSNR vs FP32", "MB", "operations", "s"):
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
    """Convert a shipped model's step at fixed sizes to float16, and to int8 if the model has it; build engines of each.

    Raises:
        ManifestError: There is no such model.
        ValueError: A named dimension has no size.
        RuntimeError: A gate failed.
    """
    targets = [find_target(engine) for engine in engines]
    model = find_model(name)
    output.mkdir(parents=True, exist_ok=True)
    exact, half = output / f"{name}.fp32.onnx", output / f"{name}.fp16.onnx"
    set_static_shapes(model.file(), exact, dimensions)
    rows = []
    is_speech = model.manifest.audio is not None
    converted = convert_to_fp16(exact, half, shipped_tiles(model, exact, tiles), stream=is_speech)
    agreement = f"{converted.psnr_db:.1f} dB, worst of {converted.tiles}"
    rows.append(Row("step", "fp16", agreement, converted.size_bytes, str(converted.nodes), converted.time_s))
    sources = [exact, half]
    if any(file.precision == "int8" for file in model.manifest.files):
        whole = output / f"{name}.int8.onnx"
        made = convert_shipped(model, exact, whole, dimensions, shipped_tiles(model, exact, tiles))
        rows.append(_int8_row("step", QuantScheme.SYMMETRIC_S8, made))
        sources.append(whole)
    for source in sources:
        for engine_type, capability in targets:
            built = build_engine(
                source,
                source.with_suffix(f".{engine_type}-{capability or 'native'}.engine"),
                engine_type=engine_type,
                capability=capability,
            )
            kind = f"{source.stem.rpartition('.')[2]} {engine_type} {built.version} {built.target}"
            rows.append(Row("step", kind, "built, not run", built.size_bytes, "", built.time_s))
    (console or Console()).print(_table(name, rows))
    return rows


def shipped_tiles(model: Model, path: Path, count: int) -> Iterator[Tile]:
    """Yield noise with initial states, then with the states that the model computed."""
    audio = model.manifest.inputs[0].name if model.manifest.audio is not None else None
    states = {state.input: state.output for state in model.manifest.states}
    return stream_tiles(path, random_tiles(file_shapes(path), count, audio=audio), states)
