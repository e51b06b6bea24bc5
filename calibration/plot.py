"""The plot of quality against speed: one point for each precision and backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Point:
    """A precision in a backend: milliseconds of a frame and PSNR-Y in dB."""

    label: str
    frame_ms: float
    quality_db: float


def write_plot(path: Path, title: str, points: Sequence[Point], *, gate_db: float) -> None:
    """Write the points as a PNG.

    Args:
        path: Where it goes.
        title: Above the plot.
        points: The first is the reference that the gate is drawn below.
        gate_db: What may be lost beside it.
    """
    # Without pyplot, which would look for a screen.
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
    axes.set_xlabel("processor time of a 320x180 frame (ms)")
    axes.set_ylabel("PSNR-Y (dB)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
