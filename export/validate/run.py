"""`relume-build validate`: every network through every gate, each in its own process, with results kept in a folder.

A network that has a result in the folder is skipped while the code, the tools and the options are the same. A process
that crashes becomes a line of the table, and the graphs that it had validated are kept.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from export.comparison_inputs import Tile, graph_tiles
from export.engine_builders import EngineBuildError, build_engine, find_target
from export.fp16.convert import Fp16Error, convert_to_fp16
from export.onnx_export import Graph, ParityError, export_graph
from export.validate.cases import SHIPPED, case_graphs, count_parameters, find_cases
from export.validate.report import (
    EngineResult,
    GraphResult,
    NetworkResult,
    digest_conditions,
    digest_structure,
    passed_structures,
    print_table,
    read_result,
    write_markdown,
    write_result,
)
from runtime.child_process import end_with_parent
from runtime.engine.device import EngineType

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """What to validate.

    `names`: networks in order; empty for all. `engines`: as `ExportRequest.engines`. `tiles`: number of random tiles,
    and of real ones from `clips` or, for speech, from `audios`.
    """

    output: Path
    names: tuple[str, ...] = ()
    tiles: int = 100
    clips: tuple[Path, ...] = ()
    audios: tuple[Path, ...] = ()
    engines: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The options that a result depends on."""
        media = {"clips": self.clips, "audios": self.audios}
        named = {kind: [(path.name, path.stat().st_size) for path in paths] for kind, paths in media.items()}
        return {"tiles": self.tiles, "engines": self.engines, **named}


def run_validation(request: ValidationRequest, *, console: Console | None = None) -> list[NetworkResult]:
    """Validate networks one after another; print a table, and write it beside the results as `validation.md`.

    Raises:
        UnknownNetworkError: There is no such network.
        ValueError: There is no such engine.
    """
    console = console or Console()
    for engine in request.engines:
        find_target(engine)
    names = find_cases(request.names)
    request.output.mkdir(parents=True, exist_ok=True)
    conditions = digest_conditions(request.options)
    results = []
    for name in names:
        kept = read_result(request.output, name, conditions)
        if kept is None or not kept.complete:
            console.print(f"{name} ...")
            kept = _validate_in_subprocess(name, request, conditions)
        results.append(kept)
        write_markdown(request.output / "validation.md", results)
    print_table(console, results)
    return results


def _validate_in_subprocess(name: str, request: ValidationRequest, conditions: str) -> NetworkResult:
    """Validate a network in a subprocess, which contains a crash or a memory leak of its libraries."""
    started = time.monotonic()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(name, request, conditions, os.getpid()))
    process.start()
    process.join()
    result = read_result(request.output, name, conditions) or NetworkResult(
        name=name, parameters=count_parameters(name), weights="", conditions=conditions
    )
    failure = f"the process exited with {process.exitcode}" if process.exitcode else ""
    result = result.model_copy(update={"failure": failure, "time_s": result.time_s + time.monotonic() - started})
    write_result(request.output, result)
    return result


def _child(name: str, request: ValidationRequest, conditions: str, parent: int) -> None:
    end_with_parent(parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    validate_network(name, request, conditions)


def validate_network(name: str, request: ValidationRequest, conditions: str) -> None:
    """Run every graph of a network through the gates, and write the result after each gate."""
    others = (read_result(request.output, path.stem, conditions) for path in sorted(request.output.glob("*.json")))
    known = passed_structures(result for result in others if result is not None)
    result = read_result(request.output, name, conditions) or NetworkResult(
        name=name,
        parameters=count_parameters(name),
        weights="as shipped" if name.startswith(SHIPPED) else "random",
        conditions=conditions,
    )
    done = {graph.role: graph for graph in result.graphs if graph.complete}
    result = result.model_copy(update={"graphs": ()})
    for graph, path in case_graphs(name, request.output):
        found = done.get(graph.role) or _find_same(graph, known)
        steps = iter((found,)) if found is not None else _validate_graph(graph, path, request, f"{name}-{graph.role}")
        finished = result.graphs
        for step in steps:
            result = result.model_copy(update={"graphs": (*finished, step)})
            write_result(request.output, result)
        known |= passed_structures([result])
        if path is not None:
            path.unlink(missing_ok=True)
    write_result(request.output, result.model_copy(update={"whole": True}))


def _find_same(graph: Graph, known: Mapping[str, tuple[str, GraphResult]]) -> GraphResult | None:
    where, other = known.get(digest_structure(graph), ("", None))
    return other.model_copy(update={"role": graph.role, "same_as": where}) if other is not None else None


def _validate_graph(graph: Graph, shipped: Path | None, request: ValidationRequest, stem: str) -> Iterator[GraphResult]:
    """Yield the result after each gate; files are removed once they are no longer needed."""
    result = GraphResult(role=graph.role, structure=digest_structure(graph), shapes=graph.inputs)
    exact, half = request.output / f"{stem}.fp32.onnx", request.output / f"{stem}.fp16.onnx"
    try:
        if shipped is None:
            written = export_graph(graph, exact)
            result = result.model_copy(
                update={"parity": written.parity, "nodes": written.nodes, "size_bytes": written.size_bytes}
            )
            yield result
        else:
            exact = shipped
        for grown in _with_engines(result, exact, "fp32", request.engines):
            result = grown
            yield result
        tiles = _with_progress(
            graph_tiles(graph, exact, request.tiles, clips=request.clips, audios=request.audios), stem
        )
        converted = convert_to_fp16(exact, half, tiles, stream=graph.audio is not None and bool(graph.states))
        random = min(request.tiles, converted.tiles)
        result = result.model_copy(
            update={
                "psnr_db": converted.psnr_db,
                "random_tiles": random,
                "real_tiles": converted.tiles - random,
                "fp32_nodes": converted.fp32_nodes,
            }
        )
        yield result
        for grown in _with_engines(result, half, "fp16", request.engines):
            result = grown
            yield result
        yield result.model_copy(update={"complete": True})
    except (ParityError, Fp16Error) as error:
        yield result.model_copy(update={"failure": str(error), "complete": True})
    finally:
        exact.unlink(missing_ok=True)
        half.unlink(missing_ok=True)


def _with_engines(result: GraphResult, source: Path, precision: str, engines: tuple[str, ...]) -> Iterator[GraphResult]:
    for name in engines:
        engine_type, capability = find_target(name)
        result = result.model_copy(
            update={"engines": (*result.engines, _build(source, precision, engine_type, capability))}
        )
        yield result


def _build(source: Path, precision: str, engine_type: EngineType, capability: str | None) -> EngineResult:
    target = source.with_suffix(".engine")
    try:
        built = build_engine(source, target, engine_type=engine_type, capability=capability)
    except EngineBuildError as error:
        return EngineResult(precision=precision, target=f"{engine_type} {capability or 'this GPU'}", failure=str(error))
    target.unlink()
    return EngineResult(
        precision=precision,
        target=f"{engine_type} {built.target}",
        version=built.version,
        size_bytes=built.size_bytes,
        time_s=round(built.time_s, 1),
    )


def _with_progress(tiles: Iterator[Tile], stem: str) -> Iterator[Tile]:
    for index, tile in enumerate(tiles):
        if index % 50 == 0:
            logger.info("%s: tile %d", stem, index)
        yield tile
