"""Jobs: created from uploads, listed, controlled and deleted."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.principal import Principal
from appliance.jobs.job import JobRecord, JobState, NewJob, Origin
from appliance.jobs.queue import JobQueue
from appliance.validation_messages import quote_value
from appliance.web.errors import ApiError
from appliance.web.routes.job_requests import (
    JobId,
    JobSource,
    SourceIn,
    TrimmedIn,
    find_source,
    only_owner,
    own_job,
    seen_job,
)
from appliance.web.security import Administrator, Operator, ServicesDep, Viewer
from appliance.web.services import Services
from appliance.web.views import JobOut, view_job
from runtime.errors import RelumeError
from runtime.options import EnhanceOptions

router = APIRouter(tags=["jobs"])


class JobIn(SourceIn):
    """A job for an uploaded file, or for the file of an earlier job."""

    priority: int = Field(0, ge=-100, le=100, description="Jobs with a higher priority run first")
    preview: bool = Field(False, description="Only three seconds from the middle; the file can be used again")


class JobChange(BaseModel):
    """A new priority, a new position in the queue (`before` null: the end), or other options before it starts."""

    model_config = ConfigDict(extra="forbid")

    priority: int | None = Field(None, ge=-100, le=100)
    before: str | None = Field(None, max_length=50)
    wishes: TrimmedIn | None = None


class JobsOut(BaseModel):
    """Jobs, the number of jobs in each state, and the revision of the queue."""

    jobs: list[JobOut]
    counts: dict[JobState, int]
    total: int = Field(description="The number of jobs that match the filters, on all pages")
    revision: int
    is_held: bool = Field(description="No further job starts until the queue is resumed")


@router.get("/api/jobs", summary="List and search jobs")
def list_jobs(
    services: ServicesDep,
    caller: Viewer,
    state: Annotated[str, Query(max_length=100, description="States, separated by commas; empty for all")] = "",
    text: Annotated[str, Query(max_length=200, description="Part of the title")] = "",
    previews: Annotated[bool, Query(description="Include previews")] = True,
    owner: Annotated[str, Query(max_length=50, description="The id of a user")] = "",
    folder: Annotated[str, Query(max_length=50, description="The id of a watch folder")] = "",
    preset: Annotated[str, Query(max_length=50, description="The name of a preset")] = "",
    since: Annotated[float | None, Query(description="Added at this time or later; seconds since 1970")] = None,
    until: Annotated[float | None, Query(description="Added before this time; seconds since 1970")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> JobsOut:
    """Return jobs: only queued ones in processing order, all others newest first."""
    try:
        states = [JobState(part) for part in state.split(",") if part] or list(JobState)
    except ValueError:
        known = ", ".join(JobState)
        message = f"unknown state {quote_value(state)}; choose from {known}"
        raise ApiError(422, "invalid", message, field="state") from None
    # Read before the list: a change in between is then sent twice instead of never.
    revision = services.queue.revision()
    only = only_owner(services, caller)
    wanted: dict[str, Any] = {
        "text": text,
        "owner": only or owner or None,
        "folder": folder or None,
        "preset": preset or None,
        "since": since,
        "until": until,
        "previews": previews,
    }
    jobs = services.queue.list(states=states if state else None, **wanted, limit=limit, offset=offset)
    names = services.users.names()
    return JobsOut(
        jobs=[view_job(job, services.queue.files(job.id), names) for job in jobs],
        counts=services.queue.counts(only),
        total=services.queue.count(states=states, **wanted),
        revision=revision,
        is_held=services.queue.is_held(),
    )


@router.post("/api/jobs", status_code=201, summary="Add a job")
async def add_job(services: ServicesDep, caller: Operator, body: JobIn) -> JobOut:
    """Queue an uploaded file or the file of an earlier job for enhancement, or for a preview."""
    options = body.options(threads=services.settings.threads, zoo=services.settings.zoo)
    source = await find_source(services, caller, body)
    return await to_thread.run_sync(_add, services, caller, body, options, source)


def _add(services: Services, caller: Principal, body: JobIn, options: EnhanceOptions, source: JobSource) -> JobOut:
    upload = source.upload
    new = NewJob(
        source=source.path,
        title=source.title,
        options=options,
        owner=caller.id,
        origin=Origin.UPLOAD,
        priority=body.priority,
        preview_of=(body.file or body.again) if body.preview else None,
    )
    with services.database.transaction():
        job = services.queue.add(new)
        if upload is not None and not body.preview:
            services.uploads.assign(upload, job.id)
    if source.again is not None:
        _copy_thumbnail(services.queue.files(source.again.id).thumbnail, services.queue.files(job.id).thumbnail)
    elif upload is not None:
        _copy_thumbnail(services.uploads.thumbnail(upload.id), services.queue.files(job.id).thumbnail)
    job = _add_estimate(services, job, source, options)
    services.audit.add(caller.actor, "job_added", f"{job.id} {source.title}")
    return _view(services, job)


def _add_estimate(services: Services, job: JobRecord, source: JobSource, options: EnhanceOptions) -> JobRecord:
    """Store the estimated time of a job if a test run of the same file and options is cached."""
    from appliance.jobs.estimate import estimate

    settings = services.settings
    tested = replace(options, backend=settings.backend, precision=settings.precision)
    measured = services.estimates.get(source.path, tested)
    if measured is None:
        return job
    try:
        time_s = estimate(source.path, tested, settings.data, measured=measured).time_s
    except RelumeError:
        # The job itself will report it.
        return job
    return services.queue.set_estimate(job.id, json.dumps({"time_s": time_s}))


@router.get("/api/jobs/{job_id}", summary="Show a job")
def get_job(services: ServicesDep, caller: Viewer, job_id: JobId) -> JobOut:
    """Return one job."""
    return _view(services, seen_job(services, caller, job_id))


@router.delete("/api/jobs/{job_id}", status_code=204, summary="Delete a finished job", response_class=Response)
def remove_job(services: ServicesDep, caller: Operator, job_id: JobId) -> Response:
    """Delete a finished job with its upload and its result on this server; results in other folders are kept."""
    job = own_job(services, caller, job_id)
    services.queue.remove(job_id)
    services.audit.add(caller.actor, "job_removed", f"{job.id} {job.title}")
    services.uploads.clean_up(services.upload_writer.busy)
    return Response(status_code=204)


@router.patch("/api/jobs/{job_id}", summary="Change a queued job")
def change_job(services: ServicesDep, caller: Operator, job_id: JobId, body: JobChange) -> JobOut:
    """Change a job's priority, its position in the queue, or its options.

    Options can be changed until the job has made progress.
    """
    job = own_job(services, caller, job_id)
    if body.wishes is not None:
        settings = services.settings
        job = services.queue.change_options(job_id, body.wishes.options(threads=settings.threads, zoo=settings.zoo))
        services.audit.add(caller.actor, "job_changed", f"{job.id} {job.title}")
    if "before" in body.model_fields_set:
        job = services.queue.move(job_id, before=body.before)
    if body.priority is not None:
        job = services.queue.prioritise(job_id, body.priority)
    return _view(services, job)


class RetryIn(BaseModel):
    """Additional permissions for a retry."""

    model_config = ConfigDict(extra="forbid")

    allow_damaged: bool = Field(False, description="Enhance a damaged file as far as it can be read")


@router.post("/api/jobs/{job_id}/{action}", summary="Pause, resume, cancel or retry a job")
def control_job(
    services: ServicesDep,
    caller: Operator,
    job_id: JobId,
    action: Literal["pause", "resume", "cancel", "retry"],
    body: RetryIn | None = None,
) -> JobOut:
    """Control a job; 409 if its state does not allow the action. Only `retry` accepts a body."""
    own_job(services, caller, job_id)
    if body is not None and action != "retry":
        raise ApiError(422, "invalid", f"{action} does not accept options; only retry does")
    steps = {
        "pause": JobQueue.pause,
        "resume": JobQueue.resume,
        "cancel": JobQueue.cancel,
        "retry": JobQueue.retry,
    }
    if body is not None and body.allow_damaged:
        job = services.queue.retry(job_id, allow_damaged=True)
    else:
        job = steps[action](services.queue, job_id)
    services.audit.add(caller.actor, f"job_{action}", f"{job.id} {job.title}")
    return _view(services, job)


@router.post("/api/queue/{action}", status_code=204, summary="Pause or resume the queue", response_class=Response)
def hold_queue(services: ServicesDep, caller: Administrator, action: Literal["pause", "resume"]) -> Response:
    """Stop or allow the start of further jobs; a running job continues."""
    services.queue.hold(on=action == "pause")
    services.audit.add(caller.actor, f"queue_{action}", "")
    return Response(status_code=204)


def _copy_thumbnail(found: Path, target: Path) -> None:
    """Copy the thumbnail of a file to its job; if this fails, the worker creates one."""
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, target)


def _view(services: Services, job: JobRecord) -> JobOut:
    return view_job(job, services.queue.files(job.id), services.users.names())
