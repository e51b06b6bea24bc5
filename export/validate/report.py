"""Validation results: as JSON, one file per network, with the conditions under which they are valid, and as a table."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from torch import nn

from export.onnx_export import Graph
from runtime.atomic_files import write_durably

TOOLS = ("torch", "onnx", "onnxruntime", "tensorrt-rtx-cu13", "tensorrt-cu13")
SOURCES = (
    "comparison_inputs", "engine_builders", "fp16/convert", "fp16/graph", "networks", "onnx_export",
    "validate/cases", "validate/report", "validate/run",
)  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineResult(_Part):
    """An engine that was built, or the reason why it was not."""

    precision: str
    target: str
    version: str = ""
    size_bytes: int = 0
    time_s: float = 0.0
    failure: str = ""


class GraphResult(_Part):
    """The results of one graph.

    `parity`: largest difference from PyTorch as a share of the peak; None for a shipped file, which is only compared
    with its float16 form. `psnr_db`: float16 against float32, worst tile. `same_as`: a validated graph of the same
    structure, with other random weights, whose results these are.
    """

    role: str
    structure: str
    shapes: dict[str, tuple[int, ...]]
    parity: float | None = None
    nodes: int = 0
    size_bytes: int = 0
    psnr_db: float | None = None
    random_tiles: int = 0
    real_tiles: int = 0
    fp32_nodes: int = 0
    engines: tuple[EngineResult, ...] = ()
    failure: str = ""
    same_as: str = ""
    complete: bool = False

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return self.complete and not self.failure and not any(engine.failure for engine in self.engines)


class NetworkResult(_Part):
    """The results of a network's graphs; `conditions` is the digest of the code and options for which they are valid.

    `whole`: every graph is listed; after an interruption some are missing.
    """

    name: str
    parameters: int
    weights: str
    conditions: str
    graphs: tuple[GraphResult, ...] = ()
    whole: bool = False
    failure: str = ""
    time_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every graph has been validated."""
        return self.whole and all(graph.complete for graph in self.graphs) and not self.failure

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return self.complete and all(graph.passed for graph in self.graphs)


def read_result(folder: Path, name: str, conditions: str) -> NetworkResult | None:
    """Return the results of a network under the same conditions, even if graphs are missing."""
    try:
        result = NetworkResult.model_validate_json((folder / f"{name}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return result if result.conditions == conditions else None


def write_result(folder: Path, result: NetworkResult) -> None:
    """Write a network's results; a crash leaves the previous ones."""
    write_durably(folder / f"{result.name}.json", f"{result.model_dump_json(indent=1)}\n".encode())


def passed_structures(results: Iterable[NetworkResult]) -> dict[str, tuple[str, GraphResult]]:
    """Return the graphs that passed every gate, with their names, by structure."""
    known: dict[str, tuple[str, GraphResult]] = {}
    for result in results:
        for graph in result.graphs:
            if graph.passed and not graph.same_as:
                known.setdefault(graph.structure, (f"{result.name} {graph.role}", graph))
    return known


def digest_conditions(options: Mapping[str, Any]) -> str:
    """Digest the options, the versions of the tools, and the source of the networks and of the validation."""
    folder = Path(__file__).parent.parent
    sources = [folder / f"{name}.py" for name in SOURCES]
    sources.extend(sorted((folder.parent / "models").rglob("*.py")))
    digest = hashlib.sha256(json.dumps([options, {tool: _version(tool) for tool in TOOLS}], sort_keys=True).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def digest_structure(graph: Graph) -> str:
    """Digest a graph without the values of its weights: modules, their plain attributes, shapes."""
    parts: list[str] = [repr(sorted(graph.inputs.items())), repr(graph.outputs), repr(graph.traced)]
    for name, module in graph.module.named_modules():
        parts.append(f"{name} {type(module).__qualname__} {_plain(module)}")
    parts.extend(f"{name} {tuple(value.shape)}" for name, value in graph.module.state_dict().items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _plain(module: nn.Module) -> str:
    """Return a module's attributes other than tensors and modules: sizes, flags, its configuration."""
    held = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    return repr(sorted((key, repr(value)) for key, value in held.items()))


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""


HEADINGS = ("network", "part", "input", "parity", "PSNR vs FP32, worst tile", "tiles", "engines", "passed")


def print_table(console: Console, results: Sequence[NetworkResult]) -> None:
    """Print the results as a table."""
    table = Table(*HEADINGS)
    for row in _rows(results):
        table.add_row(*row)
    console.print(table)


def write_markdown(path: Path, results: Sequence[NetworkResult]) -> None:
    """Write the results as a Markdown table."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS)), *(_line(row) for row in _rows(results))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(results: Sequence[NetworkResult]) -> list[tuple[str, ...]]:
    rows = []
    for result in results:
        rows.extend((result.name, *_cells(graph)) for graph in result.graphs)
        if result.failure:
            rows.append((result.name, "", "", "", "", "", "", result.failure))
    return rows


def _cells(graph: GraphResult) -> tuple[str, ...]:
    shape = "x".join(str(size) for size in next(iter(graph.shapes.values())))
    if graph.same_as:
        return graph.role, shape, f"as {graph.same_as}", "", "", "", "yes"
    parity = "as shipped" if graph.parity is None and graph.complete else _number(graph.parity, ".1e")
    tiles = f"{graph.random_tiles} + {graph.real_tiles} real" if graph.random_tiles else ""
    return graph.role, shape, parity, _number(graph.psnr_db, ".1f dB"), tiles, _engines(graph), _verdict(graph)


def _engines(graph: GraphResult) -> str:
    """Return the precisions and targets that were built, and those that were refused."""
    parts = []
    for precision in ("fp32", "fp16"):
        of_it = [engine for engine in graph.engines if engine.precision == precision]
        built = [engine.target.rpartition(" ")[2] for engine in of_it if not engine.failure]
        refused = [engine.target.rpartition(" ")[2] for engine in of_it if engine.failure]
        if built:
            parts.append(f"{precision} {', '.join(built)}")
        if refused:
            parts.append(f"{precision} refused for {', '.join(refused)}")
    return "; ".join(parts)


def _verdict(graph: GraphResult) -> str:
    if graph.passed:
        return "yes"
    if not graph.complete:
        return "not finished"
    return graph.failure or "no"


def _number(value: float | None, form: str) -> str:
    number, _, unit = form.partition(" ")
    return "" if value is None else f"{value:{number}} {unit}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
