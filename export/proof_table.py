"""What was proven as a table: on a terminal, and in Markdown."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.proof import GraphProof, NetworkProof

HEADINGS = ("network", "part", "input", "parity", "FP16, worst tile", "tiles", "engines", "holds")


def print_table(console: Console, proofs: Sequence[NetworkProof]) -> None:
    """Show the proofs."""
    table = Table(*HEADINGS)
    for row in _rows(proofs):
        table.add_row(*row)
    console.print(table)


def write_markdown(path: Path, proofs: Sequence[NetworkProof]) -> None:
    """Write the proofs as a Markdown table."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS)), *(_line(row) for row in _rows(proofs))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(proofs: Sequence[NetworkProof]) -> list[tuple[str, ...]]:
    rows = []
    for proof in proofs:
        rows.extend((proof.name, *_cells(graph)) for graph in proof.graphs)
        if proof.failure:
            rows.append((proof.name, "", "", "", "", "", "", proof.failure))
    return rows


def _cells(graph: GraphProof) -> tuple[str, ...]:
    shape = "x".join(str(size) for size in next(iter(graph.shapes.values())))
    if graph.same_as:
        return graph.role, shape, f"as {graph.same_as}", "", "", "", "yes"
    parity = "as shipped" if graph.parity is None and graph.complete else _number(graph.parity, ".1e")
    tiles = f"{graph.random_tiles} + {graph.real_tiles} real" if graph.random_tiles else ""
    return graph.role, shape, parity, _number(graph.psnr_db, ".1f dB"), tiles, _engines(graph), _verdict(graph)


def _engines(graph: GraphProof) -> str:
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


def _verdict(graph: GraphProof) -> str:
    if graph.holds:
        return "yes"
    if not graph.complete:
        return "not finished"
    return graph.failure or "no"


def _number(value: float | None, form: str) -> str:
    number, _, unit = form.partition(" ")
    return "" if value is None else f"{value:{number}} {unit}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
