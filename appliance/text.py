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


def describe_no_room(needed_bytes: int, free_bytes: int, reserve_bytes: int) -> str:
    """Say that a disk has not enough room, with what of it is reserved: the free space alone would contradict it."""
    reserved = (
        f", but {format_bytes(reserve_bytes)} of it must stay free (Settings, Disk reserve)" if reserve_bytes else ""
    )
    return (
        f"not enough free disk space: {format_bytes(needed_bytes)} are needed and {format_bytes(free_bytes)} are free"
        f"{reserved}; delete old results"
    )


def format_json(value: Any) -> str:
    """Write plain data as JSON; rationals and paths become text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
