"""`relume enhance`: one job with its progress shown, its report kept and summed up."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from appliance.progress import open_display
from appliance.summary import summarise
from runtime.errors import OptionError, OutputError, VerificationError
from runtime.options import EnhanceOptions
from runtime.report import report_to_json, write_report


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
    """Run a job; with a workspace, one that goes on after an interruption. `engines` is that of `enhance`.

    Returns:
        The report for standard output: a summary, or JSON.

    Raises:
        RelumeError: The job failed or was cancelled; nothing new is left behind.
    """
    from runtime.enhance import enhance

    # Before the work, not after it: a job of hours must not fail on the place of its report.
    taken = {"source": source, "result": target}
    for name, path in (("report", report_path), ("before/after picture", options.compare)):
        if path is not None:
            _check_side_file(path, taken, overwrite=options.overwrite)
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
    if report_path is not None:
        write_report(report, report_path)
    return report_to_json(report) if as_json else summarise(report, report_path)


def _check_side_file(path: Path, taken: Mapping[str, Path | None], *, overwrite: bool) -> None:
    for name, other in taken.items():
        if other is not None and _is_same(path, other):
            raise OptionError(f"{path} is the {name} itself; give another name")
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder, expected the name of a file")
    if not os.path.isdir(path.parent):
        raise OutputError(f"folder {path.parent} does not exist; create it first")
    if os.path.exists(path) and not overwrite:
        raise OutputError(f"{path} exists already; give another name, or --overwrite")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"folder {path.parent} is not writable; choose another folder")


def _is_same(path: Path, other: Path) -> bool:
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.abspath(path) == os.path.abspath(other)
