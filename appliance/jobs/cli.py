"""The command `relume jobs`: manage the queue from a terminal, as text or JSON."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.console import PlainCommand, describe_duration, examples, format_json, format_table
from appliance.jobs.job import JobRecord, options_to_json
from appliance.jobs.job_files import JobFiles
from runtime.options import DEFAULT_PRESET

if TYPE_CHECKING:
    from appliance.jobs.job import JobRecord, JobState
    from appliance.jobs.queue import JobQueue
    from appliance.store.database import Database


def show_jobs(jobs: Sequence[JobRecord], *, names: Mapping[str, str], as_json: bool) -> str:
    """Return a table of jobs, or JSON."""
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
    """Return all fields of a job, or JSON."""
    if as_json:
        return format_json({**_plain(job), "log": str(files.log)})
    rows = [
        ("title", job.title),
        ("state", _state(job)),
        ("progress", _progress(job)),
        ("message", job.message),
        ("source", str(job.source)),
        ("result", "" if job.result is None else str(job.result)),
        ("target", "" if job.target is None else str(job.target)),
        ("preset", job.options.preset),
        ("priority", str(job.priority)),
        ("attempts", str(job.attempts)),
        ("added", _day(job.created_at)),
        ("started", _day(job.started_at)),
        ("finished", _day(job.finished_at)),
        ("report", str(files.report) if files.report.exists() else ""),
        ("log", str(files.log) if files.log.exists() else ""),
    ]
    return format_table([(name, _printable(text)) for name, text in rows if text])


def _state(job: JobRecord) -> str:
    return f"{job.state} ({job.command} requested)" if job.command is not None else str(job.state)


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
    fields["wish"] = fields.pop("command")
    return {name: _printable(str(value)) if name in _PATHS and value else value for name, value in fields.items()}


_PATHS = ("source", "target", "result")


def _printable(text: str) -> str:
    """Return a file name as valid Unicode."""
    return text.encode("utf-8", "replace").decode()


def _day(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


app = typer.Typer(help="Manage the job queue.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default."),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its first characters.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", cls=PlainCommand)
def list_jobs(
    *,
    states: Annotated[
        str, typer.Option("--state", metavar="A,B", help="Only in these states, for example queued,running.")
    ] = "",
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="Filter by title.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, metavar="N", help="Maximum number of jobs.")] = 50,
    data: Data = None,
    json: Json = False,
) -> None:
    """List jobs: queued in processing order, others newest first."""
    from appliance.accounts.users import Users
    from appliance.jobs.job import JobState

    with _open(data) as (database, queue):
        wanted = _states(states) or list(JobState)
        # Queued jobs are read alone: only then they are in processing order.
        queued = queue.list(states=[JobState.QUEUED], text=text, limit=limit) if JobState.QUEUED in wanted else []
        rest = queue.list(states=[state for state in wanted if state is not JobState.QUEUED], text=text, limit=limit)
        open_first = sorted(rest, key=lambda job: job.is_finished)
        active = [job for job in open_first if not job.is_finished]
        found = [*active, *queued, *open_first[len(active) :]][:limit]
        print(show_jobs(found, names=Users(database).names(), as_json=json))


@app.command(
    cls=PlainCommand,
    **examples("relume jobs add holiday.mp4", "relume jobs add *.mkv --preset surveillance -o /srv/enhanced"),
)
def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", readable=False, help="Video or audio files; patterns such as *.mp4.")
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the results; next to each file by default."),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="Preset; see `relume presets`.")] = DEFAULT_PRESET,
    scale: Annotated[
        str | None, typer.Option(metavar="auto|1|2|4", help="Upscaling factor; the preset's by default.")
    ] = None,
    priority: Annotated[
        int, typer.Option(metavar="N", min=-100, max=100, help="Higher runs earlier; 0 is normal.")
    ] = 0,
    data: Data = None,
) -> None:
    """Add files on this machine to the server's queue."""
    from appliance.enhance_command import find_sources
    from appliance.jobs.job import NewJob, Origin
    from runtime.errors import OutputError
    from runtime.options import EnhanceOptions, parse_scale
    from runtime.plan import plan_job

    options = EnhanceOptions(preset=preset, scale=None if scale is None else parse_scale(scale))
    if output is not None and not output.is_dir():
        raise OutputError(f"folder {output} does not exist; create it first")
    # All files are planned before the first is added: after a typing error nothing is.
    planned = [(file, plan_job(file, None, options).target) for file in find_sources(files)]
    with _queue(data) as queue:
        for file, target in planned:
            place = target if output is None else output / target.name
            new = NewJob(
                source=file.absolute(),
                title=file.name,
                options=options,
                target=place.absolute(),
                origin=Origin.COMMAND,
                priority=priority,
            )
            job = queue.add(new)
            print(f"added {job.title} ({job.id})")


@app.command(cls=PlainCommand)
def show(job: Job, *, data: Data = None, json: Json = False) -> None:
    """Show one job."""
    with _queue(data) as queue:
        record = _find(queue, job)
        print(show_job(record, queue.files(record.id), as_json=json))


@app.command(cls=PlainCommand)
def pause(job: Job, *, data: Data = None) -> None:
    """Pause a job; progress is kept."""
    with _queue(data) as queue:
        _print(queue.pause(_find(queue, job).id))


@app.command(cls=PlainCommand)
def resume(job: Job, *, data: Data = None) -> None:
    """Resume a paused job."""
    with _queue(data) as queue:
        _print(queue.resume(_find(queue, job).id))


@app.command(cls=PlainCommand)
def cancel(job: Job, *, data: Data = None) -> None:
    """Cancel a job; progress is discarded."""
    with _queue(data) as queue:
        _print(queue.cancel(_find(queue, job).id))


@app.command(cls=PlainCommand)
def retry(job: Job, *, data: Data = None) -> None:
    """Retry a failed or cancelled job."""
    with _queue(data) as queue:
        _print(queue.retry(_find(queue, job).id))


@app.command(cls=PlainCommand)
def remove(job: Job, *, data: Data = None) -> None:
    """Delete a finished job with its files in the data directory."""
    with _queue(data) as queue:
        record = _find(queue, job)
        queue.remove(record.id)
    print(f"deleted {record.title} ({record.id})")


@contextmanager
def _queue(data: Path | None) -> "Iterator[JobQueue]":
    with _open(data) as (_, queue):
        yield queue


@contextmanager
def _open(data: Path | None) -> "Iterator[tuple[Database, JobQueue]]":
    from appliance.jobs.queue import JobQueue
    from appliance.settings_file import load_settings
    from appliance.store.data_dir import database_path
    from appliance.store.database import Database
    from appliance.store.errors import StoreError

    directory = load_settings(data).data
    # A mistyped name must not create a data directory.
    if not database_path(directory).exists():
        raise StoreError(f"there is no queue in {directory}; set the data directory with --data")
    with Database(database_path(directory)) as database:
        yield database, JobQueue(database)


def _find(queue: "JobQueue", beginning: str) -> "JobRecord":
    from appliance.jobs.errors import JobNotFoundError

    found = queue.with_id_like(beginning)
    if len(found) > 1:
        raise JobNotFoundError(f"{len(found)} jobs match {beginning!r}; type more characters of the id")
    if not found:
        raise JobNotFoundError(f"no job matches {beginning!r}; see `relume jobs list`")
    return found[0]


def _states(text: str) -> "list[JobState] | None":
    from appliance.jobs.job import JobState
    from runtime.errors import OptionError

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(JobState)]
    if unknown:
        raise OptionError(f"unknown state {unknown[0]!r}; there are: {', '.join(JobState)}")
    return [JobState(name) for name in names] or None


def _print(job: "JobRecord") -> None:
    pending = "" if job.command is None else f"; {job.command} requested"
    print(f"{job.title} ({job.id}) is {job.state}{pending}")
