"""`relume jobs`: the queue from the command line of the box, while the server runs and while it does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from appliance.jobs.queue import JobQueue
    from appliance.jobs.records import JobRecord, JobState

app = typer.Typer(help="See and steer the queue of this box.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The data directory; ~/.local/share/relume if left out."),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or the beginning of it.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


@app.command("list")
def list_jobs(
    *,
    states: Annotated[
        str, typer.Option("--state", metavar="A,B", help="queued, running, paused, done, failed, cancelled.")
    ] = "",
    text: Annotated[str, typer.Option("--text", help="Only titles that contain this.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    data: Data = None,
    json: Json = False,
) -> None:
    """List jobs: queued ones alone in the order of their turn, all others the newest first."""
    from appliance.jobs.screens import show_jobs

    with _queue(data) as queue:
        print(show_jobs(queue.list(states=_states(states), text=text, limit=limit), as_json=json))


@app.command()
def show(job: Job, *, data: Data = None, json: Json = False) -> None:
    """Show one job."""
    from appliance.jobs.screens import show_job

    with _queue(data) as queue:
        record = _find(queue, job)
        print(show_job(record, queue.files(record.id), as_json=json))


@app.command()
def pause(job: Job, *, data: Data = None) -> None:
    """Hold a job back; a running one stops soon and keeps what it has done."""
    with _queue(data) as queue:
        _tell(queue.pause(_find(queue, job).id))


@app.command()
def resume(job: Job, *, data: Data = None) -> None:
    """Let a paused job go on where it was."""
    with _queue(data) as queue:
        _tell(queue.resume(_find(queue, job).id))


@app.command()
def cancel(job: Job, *, data: Data = None) -> None:
    """End a job; what it has done so far is removed."""
    with _queue(data) as queue:
        _tell(queue.cancel(_find(queue, job).id))


@app.command()
def retry(job: Job, *, data: Data = None) -> None:
    """Queue a failed or cancelled job again."""
    with _queue(data) as queue:
        _tell(queue.retry(_find(queue, job).id))


@app.command()
def remove(job: Job, *, data: Data = None) -> None:
    """Forget a finished job, with its files in the data directory."""
    with _queue(data) as queue:
        record = _find(queue, job)
        queue.remove(record.id)
    print(f"removed {record.title} ({record.id})")


@contextmanager
def _queue(data: Path | None) -> "Iterator[JobQueue]":
    from appliance.jobs.queue import JobQueue
    from appliance.settings import load_settings
    from appliance.store.database import Database
    from appliance.store.directory import database_path
    from appliance.store.errors import StoreError

    directory = load_settings(data).data
    # Asking about jobs shall not make a data directory out of a mistyped name.
    if not database_path(directory).exists():
        raise StoreError(f"there is no queue in {directory}; name the data directory with --data")
    with Database(database_path(directory)) as database:
        yield JobQueue(database)


def _find(queue: "JobQueue", beginning: str) -> "JobRecord":
    from appliance.jobs.errors import JobNotFoundError

    found = queue.with_id_like(beginning)
    if len(found) > 1:
        raise JobNotFoundError(f"{len(found)} jobs begin with {beginning}; give more of the id")
    return found[0] if found else queue.get(beginning)


def _states(text: str) -> "list[JobState] | None":
    from appliance.jobs.records import JobState
    from runtime.errors import OptionError

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(JobState)]
    if unknown:
        raise OptionError(f"there is no state {unknown[0]!r}; there are: {', '.join(JobState)}")
    return [JobState(name) for name in names] or None


def _tell(job: "JobRecord") -> None:
    wish = "" if job.wish is None else f"; it will {job.wish} in a moment, if a worker runs"
    print(f"{job.title} ({job.id}) is {job.state}{wish}")
