"""`relume enhance`: one job with its progress shown, its report kept and summed up."""

import threading
from pathlib import Path

from appliance.progress import open_display
from appliance.summary import summarise
from runtime.errors import OptionError, OutputError
from runtime.options import EnhanceOptions
from runtime.report import report_to_json, write_report


def run_job(
    source: Path,
    target: Path | None,
    options: EnhanceOptions,
    *,
    report_path: Path | None,
    as_json: bool,
    cancel: threading.Event,
) -> str:
    """Run a job.

    Returns:
        The report for standard output: a summary, or JSON.

    Raises:
        RelumeError: The job failed or was cancelled; nothing new is left behind.
    """
    from runtime.enhance import enhance

    # Before the work, not after it: a job of hours must not fail on the place of its report.
    for path in (report_path, options.compare):
        if path is not None:
            _check_side_file(path, source, target, overwrite=options.overwrite)
    with open_display() as display:
        report = enhance(source, target, options, on_progress=display, cancel=cancel)
    if report_path is not None:
        write_report(report, report_path)
    return report_to_json(report) if as_json else summarise(report, report_path)


def _check_side_file(path: Path, source: Path, target: Path | None, *, overwrite: bool) -> None:
    for other, name in ((source, "source"), (target, "result")):
        if other is not None and path.absolute() == other.absolute():
            raise OptionError(f"{path} is the {name} itself; give another name")
    if path.is_dir():
        raise OutputError(f"{path} is a directory, expected the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"there is no directory {path.parent} for {path.name}; make it first")
    if path.exists():
        if path.exists() and source.exists() and path.samefile(source):
            raise OptionError(f"{path} is the source itself; give another name")
        if not overwrite:
            raise OutputError(f"{path} exists; give another name, or --overwrite")
