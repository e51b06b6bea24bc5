"""Text in columns, the same on a terminal, in a file and in a log; and JSON."""

import json
from collections.abc import Iterable, Sequence
from typing import Any


def format_table(rows: Iterable[Sequence[str]]) -> str:
    """Align the cells of rows in columns, two spaces apart; the last column runs on."""
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    columns = max((len(row) for row in cells), default=0)
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(columns)]
    lines = ("  ".join(f"{cell:<{widths[i]}}" for i, cell in enumerate(row)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def format_bytes(count: int) -> str:
    """Write a number of bytes with a decimal unit."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000.0:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        size /= 1000.0
    return f"{size:.3g} TB"


def format_json(value: Any) -> str:
    """Write plain data as JSON; rationals and paths become text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
