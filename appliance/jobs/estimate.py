"""Estimate of time, memory and disk of a job before it starts, from a test run of two seconds."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import psutil

import appliance
from appliance.console import describe_disk_full, format_bytes
from appliance.jobs.errors import JobError
from appliance.jobs.estimate_process import Measured
from appliance.jobs.job import options_to_json
from appliance.jobs.job_files import PROXY_S
from appliance.settings import engines_folder
from runtime.errors import OutputError
from runtime.options import EnhanceOptions
from runtime.plan import plan_job

BUDGET_S: Final = 10.0
MAX_TRIAL_S: Final = 120.0
_PROXY_BYTES: Final = 60_000_000
_MARGIN: Final = 1.1
RESERVE_BYTES: Final = 200_000_000


class TrialError(JobError):
    """The test run failed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of a job; `message` is for the user, and says what is missing if the job does not fit."""

    time_s: float
    memory_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int
    result_bytes: int
    fits: bool
    message: str


def try_out(source: Path, options: EnhanceOptions, data_directory: Path, *, budget_s: float = BUDGET_S) -> Measured:
    """Measure two seconds from the middle of a source, fewer where they take longer than the budget.

    Raises:
        RelumeError: The source or the options are refused.
        TrialError: The test run took too long, or ended unexpectedly.
    """
    return _try(source, options, data_directory, budget_s)


def estimate(
    source: Path,
    options: EnhanceOptions,
    data_directory: Path,
    *,
    target: Path | None = None,
    memory_limit_bytes: int | None = None,
    reserve_bytes: int = RESERVE_BYTES,
    budget_s: float = BUDGET_S,
    measured: Measured | None = None,
) -> Estimate:
    """Extrapolate a test run of two seconds to the whole job.

    Args:
        source: The file.
        options: Options of the job.
        data_directory: The data directory, which holds the workspace.
        target: The result, None for one in the data directory.
        memory_limit_bytes: Memory limit of a worker, None for no limit.
        reserve_bytes: Bytes that stay free on a disk.
        budget_s: Approximate duration of the test run, without its start.
        measured: Measurements of an earlier test run; None for a new one.

    Raises:
        RelumeError: The source or the options are refused.
        TrialError: The test run took too long, or ended unexpectedly.
    """
    plan = plan_job(source, None, options)
    length = _length(plan.info.duration, options)
    measured = measured or _try(source, options, data_directory, budget_s)
    share = 1.0 if length is None else float(length) / measured.span_s
    compared = 1.0 if length is None else min(float(length), PROXY_S) / measured.span_s
    time_s = measured.start_s + measured.run_s * share + measured.compare_s * compared
    result_bytes = int(measured.result_bytes * share * _MARGIN)
    memory_bytes = int(measured.memory_bytes * _MARGIN)
    # The segments and the result exist side by side for a moment.
    disk = _Disk.of(data_directory, result_bytes + _proxies(length))
    if target is None or _device(target.parent) == disk.device:
        disk = _Disk.of(data_directory, disk.needed_bytes + result_bytes)
        disks = [disk]
    else:
        disks = [disk, _Disk.of(target.parent, result_bytes)]
    limits = _Limits(memory_limit_bytes, reserve_bytes)
    sizes = _Sizes(memory_bytes, result_bytes)
    return _judge(time_s, sizes, disks, limits, is_known=length is not None)


@dataclass(frozen=True, slots=True)
class _Limits:
    """Limits of a job."""

    memory_bytes: int | None
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Needs of a job."""

    memory_bytes: int
    result_bytes: int


def _judge(time_s: float, sizes: _Sizes, disks: "list[_Disk]", limits: _Limits, *, is_known: bool) -> Estimate:
    tightest = min(disks, key=lambda disk: disk.free_bytes - disk.needed_bytes)
    memory_bytes, available = sizes.memory_bytes, psutil.virtual_memory().available
    allowed = available if limits.memory_bytes is None else min(limits.memory_bytes, available)
    missing = []
    if tightest.needed_bytes + limits.reserve_bytes > tightest.free_bytes:
        missing.append(
            describe_disk_full(tightest.needed_bytes, tightest.free_bytes, limits.reserve_bytes)
            + ", or choose a smaller size"
        )
    if memory_bytes > allowed:
        missing.append(
            f"it needs about {format_bytes(memory_bytes)} of memory, but only {format_bytes(allowed)} are available; "
            "close other programs, or choose a smaller size"
        )
    facts = (
        f"about {describe_time(time_s)}, {format_bytes(memory_bytes)} of memory and "
        f"{format_bytes(tightest.needed_bytes)} of disk ({format_bytes(tightest.free_bytes)} are free)"
    )
    message = "This does not fit: " + "; and ".join(missing) if missing else f"This will take {facts}"
    if not is_known:
        message += "; the file does not declare its duration, so it may be more"
    return Estimate(
        time_s=round(time_s, 1),
        memory_bytes=memory_bytes,
        disk_needed_bytes=tightest.needed_bytes,
        disk_free_bytes=tightest.free_bytes,
        result_bytes=sizes.result_bytes,
        fits=not missing,
        message=message,
    )


@dataclass(frozen=True, slots=True)
class _Disk:
    """Needed and free bytes on the disk of a folder, which may not exist yet."""

    folder: Path
    device: int
    needed_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, folder: Path, needed_bytes: int) -> "_Disk":
        there = _existing(folder)
        return cls(folder, os.stat(there).st_dev, needed_bytes, shutil.disk_usage(there).free)


def describe_time(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 60:
        return f"{round(seconds)} seconds"
    minutes = round(seconds / 60)
    if minutes < 60:
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    hours, rest = divmod(minutes, 60)
    # Beyond some hours, minutes would suggest a precision that there is not.
    tail = "" if hours > 5 or rest == 0 else f" {rest} minutes"
    return ("1 hour" if hours == 1 else f"{hours + (hours > 5 and rest >= 30)} hours") + tail


def _try(source: Path, options: EnhanceOptions, data: Path, budget_s: float) -> Measured:
    """Run the test run in a subprocess, in a temporary folder."""
    asked = {"source": str(source.absolute()), "options": json.loads(options_to_json(options))}
    try:
        folder = tempfile.TemporaryDirectory(prefix=".trial-", dir=data)
    except OSError as error:
        raise OutputError(f"no test run is possible in {data}: {error.strerror}; free some space") from error
    with folder:
        command = [sys.executable, "-m", "appliance.jobs.estimate_process", "--folder", folder.name]
        command += ["--budget-s", str(budget_s), "--parent", str(os.getpid())]
        command += ["--engines", str(engines_folder(data))]
        try:
            process = subprocess.run(
                command,
                input=json.dumps(asked, ensure_ascii=False).encode("utf-8", "surrogateescape"),
                capture_output=True,
                cwd=Path(appliance.__file__).parents[1],
                timeout=MAX_TRIAL_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TrialError(
                f"the test run took longer than {MAX_TRIAL_S:g} s; the server may be busy: try again, "
                "or start the job without an estimate"
            ) from error
    return _read(process.returncode, process.stdout, process.stderr)


def _read(code: int, output: bytes, errors: bytes) -> Measured:
    try:
        answer: Mapping[str, Any] = json.loads(output)
    except ValueError as error:
        if code < 0:
            raise TrialError(
                f"the test run was killed by signal {-code}, probably out of memory; choose a smaller size"
            ) from error
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise TrialError(f"the test run failed unexpectedly ({' '.join(last) or f'code {code}'})") from error
    if "error" in answer:
        raise TrialError(f"the test run failed: {answer['error']}")
    return Measured(**answer)


def _length(duration: Fraction | None, options: EnhanceOptions) -> Fraction | None:
    ends = [end for end in (duration, options.end) if end is not None]
    if not ends:
        return None
    return max(Fraction(1, 100), min(ends) - (options.start or 0))


def _proxies(length: Fraction | None) -> int:
    share = 1.0 if length is None else min(1.0, float(length) / PROXY_S)
    return int(_PROXY_BYTES * share)


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _device(folder: Path) -> int:
    return os.stat(_existing(folder)).st_dev
