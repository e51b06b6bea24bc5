"""`relume enhance`: runs the jobs and shows their progress on stderr, as a bar or as lines."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from appliance.console import describe_duration, summarise
from runtime.errors import CancelledError, DecodeError, OptionError, OutputError, RelumeError
from runtime.options import EnhanceOptions
from runtime.progress import Progress
from runtime.report import VerificationError, report_to_json, write_report

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.table import Column


_LINE_EVERY_S: Final = 10.0
_AMBER: Final = "#f09d0c"


class Display(Protocol):
    """Shows progress; called from any thread."""

    def __call__(self, progress: Progress) -> None:
        """Show the progress."""
        ...


@contextmanager
def open_display(stream: TextIO | None = None) -> Iterator[Display]:
    """Open the display for a stream (stderr by default): a bar on a terminal, lines elsewhere."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield LineDisplay(stream)
        return
    with _make_bar() as bar:
        yield BarDisplay(bar)


class BarDisplay:
    """A progress bar."""

    def __init__(self, bar: "RichProgress") -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None, share="", facts="")

    def __call__(self, progress: Progress) -> None:
        """Update the bar."""
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
    """Prints a line when the stage changes, and every ten seconds."""

    def __init__(self, stream: TextIO, *, every_s: float = _LINE_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s
        self._stage = ""
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        if progress.stage == self._stage and now < self._due:
            return
        self._stage = progress.stage
        self._due = now + self._every_s
        facts = describe_progress(progress)
        print(f"{progress.stage}: {facts}" if facts else progress.stage, file=self._stream)


def describe_progress(progress: Progress) -> str:
    """Return the progress as text; empty before the first frame or sample."""
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
    """Return the progress in percent, rounded down; empty if the length is unknown."""
    return f"{100 * done // total}%" if total else ""


def _position(progress: Progress) -> tuple[int, int | None]:
    if progress.frames_done or progress.frames_total:
        return progress.frames_done, progress.frames_total
    return progress.samples_done, progress.samples_total


def _count(done: int, total: int | None) -> str:
    return f"{done}/{total}" if total else f"{done}"


def _column() -> "Column":
    """Create a column that is truncated, not wrapped, on a narrow terminal."""
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


def run_jobs(
    sources: Sequence[Path],
    output: Path | None,
    options: EnhanceOptions,
    *,
    report_path: Path | None,
    workspace: Path | None,
    engines: Path | None,
    as_json: bool,
    cancel: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Run a job for each source in turn; pass each report to `say` as soon as it is available.

    A failed job does not prevent the others.

    Raises:
        OptionError: An option for a single file was given with several sources.
        RelumeError: The first error, after all jobs.
    """
    found = find_sources(sources)
    several = len(found) > 1
    for name, path in (("--report", report_path), ("--compare", options.compare), ("--workspace", workspace)):
        if several and path is not None:
            raise OptionError(f"{name} is for a single file, but there are {len(found)}; enhance them one by one")
    folder = output if output is not None and (os.path.isdir(output) or str(output).endswith(os.sep)) else None
    if several and output is not None and folder is None:
        raise OptionError(f"{output} is not a folder, but there are {len(found)} files; choose an existing folder")
    if folder is not None and not os.path.isdir(folder):
        raise OutputError(f"folder {folder} does not exist; create it first")
    first: RelumeError | None = None
    for source in found:
        try:
            text = run_job(
                source,
                output if folder is None else folder / _name_in(folder, source, options),
                options,
                report_path=report_path,
                workspace=workspace,
                engines=engines,
                as_json=as_json,
                cancel=cancel,
            )
        except RelumeError as error:
            if not several or isinstance(error, CancelledError):
                raise
            print(f"relume: {error}", file=sys.stderr)
            first = first or error
            continue
        say(text)
    if first is not None:
        raise type(first)(f"not all of the {len(found)} files could be enhanced; first error: {first}") from first


def find_sources(sources: Sequence[Path]) -> list[Path]:
    """Return the files, with patterns (`*.mp4`) expanded that the shell has not expanded.

    Raises:
        DecodeError: No file matches a pattern.
    """
    found: list[Path] = []
    for source in sources:
        text = str(source)
        if os.path.lexists(source) or not any(mark in text for mark in "*?["):
            found.append(source)
            continue
        matching = sorted(Path(name) for name in glob(text) if os.path.isfile(name))
        if not matching:
            raise DecodeError(f"no file matches {text}; check the folder and the pattern")
        found += matching
    return list(dict.fromkeys(found))


def _name_in(folder: Path, source: Path, options: EnhanceOptions) -> str:
    """Return the name of a result in a folder: that of the source, unless this would be the source itself."""
    from runtime.plan import plan_job

    named = plan_job(source, None, options).target
    plain = f"{source.stem}{named.suffix}"
    return named.name if os.path.exists(source) and _is_same(folder / plain, source) else plain


def run_job(
    source: Path,
    target: Path | None,
    options: EnhanceOptions,
    *,
    report_path: Path | None,
    workspace: Path | None,
    engines: Path | None,
    as_json: bool,
    cancel: threading.Event,
) -> str:
    """Run a job; with a workspace it can be resumed after an interruption.

    Returns:
        The summary of the job as text or JSON.

    Raises:
        RelumeError: The job failed or was cancelled; no new files are left.
    """
    from runtime.enhance import enhance
    from runtime.media.webp import release_converted

    # Checked first: a job of hours must not fail because of the path of its report.
    taken = {"source": source, "result": target}
    for name, path in (("report", report_path), ("before/after image", options.compare)):
        if path is not None:
            _check_output_file(path, taken, overwrite=options.overwrite)
            taken[name] = path
    with open_display() as display:
        try:
            report = enhance(
                source, target, options, on_progress=display, cancel=cancel, workspace=workspace, engines=engines
            )
        except VerificationError as error:
            if report_path is not None and error.report is not None:
                write_report(error.report, report_path)
            raise
        finally:
            release_converted()
    if report_path is not None:
        write_report(report, report_path)
    if options.compare is not None and report.picture is None:
        print(f"note: --compare needs video, but {source.name} has none; no image was written", file=sys.stderr)
    return report_to_json(report) if as_json else summarise(report, report_path)


def _check_output_file(path: Path, taken: Mapping[str, Path | None], *, overwrite: bool) -> None:
    for name, other in taken.items():
        if other is not None and _is_same(path, other):
            raise OptionError(f"{path} is the {name} itself; choose another name")
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder; choose a file name")
    if not os.path.isdir(path.parent):
        raise OutputError(f"folder {path.parent} does not exist; create it first")
    if os.path.exists(path) and not overwrite:
        raise OutputError(f"{path} already exists; choose another name, or use --overwrite")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"folder {path.parent} is not writable; choose another folder")


def _is_same(path: Path, other: Path) -> bool:
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.abspath(path) == os.path.abspath(other)
