"""Interleaved timing of several sessions, and the plot of quality against time."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.engine.session import Array, Session


@dataclass(frozen=True, slots=True)
class Timing:
    """Median milliseconds per run: CPU time of all threads, and wall-clock time.

    CPU time is comparable on a busy machine.
    """

    processor_ms: float
    clock_ms: float


def time_in_turn(sessions: Mapping[str, Session], tensors: Mapping[str, Array], *, repeats: int) -> dict[str, Timing]:
    """Run every session once per round, for `repeats` rounds after a warm-up round.

    Args:
        sessions: By name.
        tensors: Inputs of every session.
        repeats: Rounds.
    """
    processor: dict[str, list[float]] = {name: [] for name in sessions}
    clock: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(repeats + 1):
        for name, session in sessions.items():
            processor_s, clock_s = time.process_time(), time.perf_counter()
            session.run(tensors)
            if turn:
                processor[name].append(time.process_time() - processor_s)
                clock[name].append(time.perf_counter() - clock_s)
    return {
        name: Timing(1e3 * statistics.median(processor[name]), 1e3 * statistics.median(clock[name]))
        for name in sessions
    }


@dataclass(frozen=True, slots=True)
class Point:
    """A precision in a backend: milliseconds per frame and PSNR-Y in dB."""

    label: str
    frame_ms: float
    quality_db: float


def write_plot(path: Path, title: str, points: Sequence[Point], *, gate_db: float) -> None:
    """Write the points as a PNG.

    Args:
        path: Of the PNG.
        title: Of the plot.
        points: The first is the reference.
        gate_db: Largest allowed loss; drawn as a line below the reference.
    """
    # Without pyplot, which would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    gate = points[0].quality_db - gate_db
    axes.axhline(gate, color="tab:red", linewidth=1, linestyle="--", label=f"{gate_db:g} dB below {points[0].label}")
    for point in points:
        axes.plot(point.frame_ms, point.quality_db, "o", color="tab:blue")
        axes.annotate(point.label, (point.frame_ms, point.quality_db), textcoords="offset points", xytext=(6, 5))
    lowest = min(gate, *(point.quality_db for point in points))
    highest = max(point.quality_db for point in points)
    margin = 0.15 * max(highest - lowest, 0.01)
    axes.set_ylim(lowest - margin, highest + margin)
    axes.set_xlim(0, 1.25 * max(point.frame_ms for point in points))
    axes.set_title(title)
    axes.set_xlabel("CPU time of a 320x180 frame (ms)")
    axes.set_ylabel("PSNR-Y (dB)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
