"""How benchmarks time work and write what they found: interleaved rounds, the least processor time, floors."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    floor_ms: What the machine needs at least, by its measured rates; None where no bound is known.
    peer, peer_ms: Another implementation of the same, in the same rounds.
    note: What else was found, such as an error beside the peer's.
    """

    name: str
    ms: float
    floor_ms: float | None = None
    peer: str = ""
    peer_ms: float | None = None
    note: str = ""


def time_interleaved(
    works: Sequence[Callable[[], object]], *, rounds: int = 5, clock: Callable[[], float] = time.thread_time
) -> list[float]:
    """Return the least milliseconds of each work; all run in turn, so that other load meets all alike.

    The first round, in which kernels are compiled and buffers allocated, does not count.
    """
    best = [float("inf")] * len(works)
    for turn in range(1 + rounds):
        for number, work in enumerate(works):
            begun = clock()
            work()
            elapsed_ms = 1e3 * (clock() - begun)
            if turn:
                best[number] = min(best[number], elapsed_ms)
    return best


def measure_copy_rate() -> float:
    """Return the bytes that one thread reads and writes in a millisecond when it copies a large array, now."""
    source, target = np.zeros(100 << 20, np.uint8), np.zeros(100 << 20, np.uint8)
    (ms,) = time_interleaved([lambda: np.copyto(target, source)])
    return 2 * source.nbytes / ms


def format_rows(rows: Iterable[Row]) -> str:
    """Return a table as text."""
    lines = [f"{'':44}{'ms':>9}{'of floor':>10}  {'peer':28}{'ms':>9}{'times as fast':>15}"]
    for row in rows:
        share = "" if row.floor_ms is None else f"{row.floor_ms / row.ms:.0%}"
        times = "" if row.peer_ms is None else f"{row.peer_ms / row.ms:.2f}"
        peer_ms = "" if row.peer_ms is None else f"{row.peer_ms:.1f}"
        lines.append(
            f"{row.name:44}{row.ms:9.2f}{share:>10}  {row.peer:28}{peer_ms:>9}{times:>15}  {row.note}".rstrip()
        )
    return "\n".join(lines)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write measurements as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
