"""Jobs as text for a terminal, and as JSON."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from appliance.jobs.files import JobFiles
from appliance.jobs.records import JobRecord, options_to_json
from appliance.progress import describe_duration
from appliance.text import format_json, format_table


def show_jobs(jobs: Sequence[JobRecord], *, names: Mapping[str, str], as_json: bool) -> str:
    """List jobs, a line each."""
    if as_json:
        return format_json([_plain(job) for job in jobs])
    if not jobs:
        return "no jobs"
    rows = [
        (
            job.id,
            _state(job),
            _progress(job),
            job.options.preset,
            _day(job.created_at)[:16],
            describe_duration(job.worked_s) if job.is_finished and job.worked_s else "",
            names.get(job.owner or "", job.origin),
            _printable(job.title),
        )
        for job in jobs
    ]
    return format_table([("id", "state", "progress", "preset", "added", "took", "owner", "title"), *rows])


def show_job(job: JobRecord, files: JobFiles, *, as_json: bool) -> str:
    """Show everything about a job."""
    if as_json:
        return format_json({**_plain(job), "log": str(files.log)})
    rows = [
        ("title", job.title),
        ("state", _state(job)),
        ("progress", _progress(job)),
        ("message", job.message),
        ("source", str(job.source)),
        ("result", "" if job.result is None else str(job.result)),
        ("wanted as", "" if job.target is None else str(job.target)),
        ("preset", job.options.preset),
        ("priority", str(job.priority)),
        ("attempts", str(job.attempts)),
        ("added", _day(job.created_at)),
        ("started", _day(job.started_at)),
        ("ended", _day(job.finished_at)),
        ("report", str(files.report) if files.report.exists() else ""),
        ("log", str(files.log) if files.log.exists() else ""),
    ]
    return format_table([(name, _printable(text)) for name, text in rows if text])


def _state(job: JobRecord) -> str:
    return f"{job.state} ({job.wish} asked)" if job.wish is not None else str(job.state)


def _progress(job: JobRecord) -> str:
    if job.is_finished or not job.stage:
        return ""
    parts = [job.stage]
    if job.frames_total:
        parts.append(f"{100 * job.frames_done // job.frames_total}%")
    if job.fps:
        parts.append(f"{job.fps:.1f} fps")
    if job.eta_s is not None:
        parts.append(f"{describe_duration(job.eta_s)} left")
    return ", ".join(parts)


def _plain(job: JobRecord) -> dict[str, object]:
    fields = {**asdict(job), "options": json.loads(options_to_json(job.options))}
    return {name: _printable(str(value)) if name in _PATHS and value else value for name, value in fields.items()}


_PATHS = ("source", "target", "result")


def _printable(text: str) -> str:
    """Make a text that a terminal takes of a file's name that is none."""
    return text.encode("utf-8", "replace").decode()


def _day(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
