"""How far a job is, on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from runtime.options import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.table import Column

_LINE_EVERY_S: Final = 10.0
_AMBER: Final = "#f09d0c"


class Display(Protocol):
    """Shows one progress message; called from any thread."""

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        ...


@contextmanager
def open_display(stream: TextIO | None = None) -> Iterator[Display]:
    """Choose the display for the stream (stderr by default), and close it at the end."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield LineDisplay(stream)
        return
    with _make_bar() as bar:
        yield BarDisplay(bar)


class BarDisplay:
    """A bar that is drawn again and again."""

    def __init__(self, bar: "RichProgress") -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None, share="", facts="")

    def __call__(self, progress: Progress) -> None:
        """Redraw the bar."""
        done, total = _position(progress)
        self._bar.update(
            self._task,
            description=progress.stage,
            completed=done,
            total=total,
            share=describe_share(done, total),
            facts=describe_progress(progress),
        )


class LineDisplay:
    """A line when the stage changes, and one every ten seconds."""

    def __init__(self, stream: TextIO, *, every_s: float = _LINE_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s
        self._stage = ""
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        """Write a line if one is due."""
        now = time.monotonic()
        if progress.stage == self._stage and now < self._due:
            return
        self._stage = progress.stage
        self._due = now + self._every_s
        facts = describe_progress(progress)
        print(f"{progress.stage}: {facts}" if facts else progress.stage, file=self._stream)


def describe_progress(progress: Progress) -> str:
    """Say in words how far the job is; empty before the first frame or sample."""
    parts = []
    if progress.frames_done:
        parts.append(f"{_count(progress.frames_done, progress.frames_total)} frames")
    elif progress.samples_done:
        parts.append(f"{_count(progress.samples_done, progress.samples_total)} samples")
    if progress.fps > 0:
        parts.append(f"{progress.fps:.1f} fps")
    if progress.eta_s is not None:
        parts.append(f"{describe_duration(progress.eta_s)} left")
    return ", ".join(parts)


def describe_share(done: int, total: int | None) -> str:
    """Write how far it is as a percentage, rounded down; empty where the length is unknown."""
    return f"{100 * done // total}%" if total else ""


def describe_duration(seconds: float) -> str:
    """Write a duration as m:ss or h:mm:ss, rounded to the second."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _position(progress: Progress) -> tuple[int, int | None]:
    if progress.frames_done or progress.frames_total:
        return progress.frames_done, progress.frames_total
    return progress.samples_done, progress.samples_total


def _count(done: int, total: int | None) -> str:
    return f"{done}/{total}" if total else f"{done}"


def _column() -> "Column":
    """Make a column that is cut at the edge of a narrow terminal, not broken within words."""
    from rich.table import Column

    return Column(no_wrap=True, overflow="ellipsis")


def _make_bar() -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        SpinnerColumn(style=_AMBER),
        TextColumn("{task.description}", table_column=_column()),
        BarColumn(bar_width=20, style="grey35", complete_style=_AMBER, finished_style=_AMBER, pulse_style=_AMBER),
        TextColumn("{task.fields[share]:>4}", table_column=_column()),
        TextColumn("{task.fields[facts]}", table_column=_column()),
        console=Console(stderr=True),
        transient=True,
    )
