"""Jobs: made from uploads, listed, steered and removed."""

import asyncio
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path as FolderPath
from typing import Annotated, Any, Final, Literal

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from appliance.accounts.principal import Principal, Role
from appliance.errors import UploadError
from appliance.jobs.errors import JobNotFoundError
from appliance.jobs.job import JobRecord, JobState, NewJob, Origin
from appliance.jobs.queue import JobQueue
from appliance.validation_messages import quote_value
from appliance.web.errors import ApiError
from appliance.web.security import Administrator, Operator, ServicesDep, Viewer
from appliance.web.services import Services
from appliance.web.upload_store import Upload
from appliance.web.views import JobOut, view_job
from runtime.errors import ManifestError, OptionError, RelumeError
from runtime.manifest import find_model
from runtime.options import DEFAULT_PRESET, AudioMode, Codec, EnhanceOptions, check_options
from runtime.presets import resolve_preset

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]
_CHECK_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.2


class OptionsIn(BaseModel):
    """How to enhance; what is left out or null is as the preset says."""

    model_config = ConfigDict(extra="forbid")

    preset: str = Field(DEFAULT_PRESET, max_length=50)
    scale: Literal["auto", 1, 2, 4] | None = None
    strength: float | None = Field(None, ge=0, le=1)
    audio: AudioMode | None = None
    codec: Codec | None = None
    allow_damaged: bool = Field(False, description="Enhance a damaged file as far as it can be read")
    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="For the picture, instead of the preset's: a model of the box's own folder, or one that ships",
    )

    def options(self, *, threads: int = 0, zoo: FolderPath | None = None) -> EnhanceOptions:
        """Return the options; `zoo` is the box's own folder of models.

        Raises:
            OptionError: They do not go together, or there is no such model.
        """
        options = EnhanceOptions(
            preset=self.preset,
            scale=self.scale,
            strength=self.strength,
            audio=self.audio,
            codec=self.codec,
            threads=threads or None,
            allow_damaged=self.allow_damaged,
            model=self.model,
            zoo=None if self.model is None else _zoo_of(self.model, zoo),
        )
        resolve_preset(options)
        return options


def _zoo_of(model: str, zoo: FolderPath | None) -> FolderPath | None:
    """Return the folder that holds a model: the box's own, or None for the one that ships."""
    own = zoo if zoo is not None and (zoo / model).is_dir() else None
    try:
        find_model(model, own)
    except ManifestError as error:
        # Its own words would name the box's folders.
        raise OptionError(f"no model named {model} here; the setting Own models names their folder") from error
    return own


Seconds = Annotated[Decimal, Field(ge=0, max_digits=15, decimal_places=6)]


class TrimmedIn(OptionsIn):
    """How to enhance a part of a file, or all of it."""

    start_s: Seconds | None = Field(None, description="Begin here, in seconds; left out: at the beginning")
    end_s: Seconds | None = Field(None, description="End before this; left out: at the end")

    def options(self, *, threads: int = 0, zoo: FolderPath | None = None) -> EnhanceOptions:
        """Return the options, as `OptionsIn.options` does.

        Raises:
            OptionError: They do not go together, or there is no such model.
        """
        options = replace(
            super().options(threads=threads, zoo=zoo),
            start=None if self.start_s is None else Fraction(self.start_s),
            end=None if self.end_s is None else Fraction(self.end_s),
        )
        check_options(options)
        return options


class SourceIn(TrimmedIn):
    """What to enhance: an upload, or the file of an earlier job."""

    file: str | None = Field(None, max_length=50, description="The id of an upload of the caller")
    again: str | None = Field(None, max_length=50, description="In its place, the id of a job whose file is used again")

    @model_validator(mode="after")
    def _check_source(self) -> "SourceIn":
        if (self.file is None) == (self.again is None):
            raise ValueError("give either file or again")
        return self


class JobIn(SourceIn):
    """A job for an uploaded file, or for the file of an earlier job."""

    priority: int = Field(0, ge=-100, le=100, description="Higher runs earlier")
    preview: bool = Field(False, description="Only three seconds from the middle; the file can be used again")


class JobChange(BaseModel):
    """A new priority, a new place among the queued (`before` null is the end), or other wishes before it starts."""

    model_config = ConfigDict(extra="forbid")

    priority: int | None = Field(None, ge=-100, le=100)
    before: str | None = Field(None, max_length=50)
    wishes: TrimmedIn | None = None


class JobsOut(BaseModel):
    """Jobs, how many there are in each state, and the number of the last change."""

    jobs: list[JobOut]
    counts: dict[JobState, int]
    total: int = Field(description="How many there are of what was asked for, on all pages together")
    revision: int
    is_held: bool = Field(description="No further job is started until the queue is resumed")


@router.get("/api/jobs", summary="List and search jobs")
def list_jobs(
    services: ServicesDep,
    caller: Viewer,
    state: Annotated[str, Query(max_length=100, description="States, separated by commas; empty for all")] = "",
    text: Annotated[str, Query(max_length=200, description="Part of the title")] = "",
    previews: Annotated[bool, Query(description="Also previews")] = True,
    owner: Annotated[str, Query(max_length=50, description="The id of a user")] = "",
    folder: Annotated[str, Query(max_length=50, description="The id of a watch folder")] = "",
    preset: Annotated[str, Query(max_length=50, description="The name of a preset")] = "",
    since: Annotated[float | None, Query(description="Added then or later; seconds since 1970")] = None,
    until: Annotated[float | None, Query(description="Added before; seconds since 1970")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> JobsOut:
    """Return jobs: queued ones alone in the order of their turn, all others the newest first."""
    try:
        states = [JobState(part) for part in state.split(",") if part] or list(JobState)
    except ValueError:
        known = ", ".join(JobState)
        raise ApiError(422, "invalid", f"unknown state {quote_value(state)}: {known}", field="state") from None
    # Before the list, so that what changes meanwhile is told once more and not lost.
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
    names = services.accounts.users.names()
    return JobsOut(
        jobs=[view_job(job, services.queue.files(job.id), names) for job in jobs],
        counts=services.queue.counts(only),
        total=services.queue.count(states=states, **wanted),
        revision=revision,
        is_held=services.queue.is_held(),
    )


@router.post("/api/jobs", status_code=201, summary="Make a job")
async def add_job(services: ServicesDep, caller: Operator, body: JobIn) -> JobOut:
    """Queue an uploaded file for enhancement, or a preview of it; or the file of an earlier job once more."""
    options = body.options(threads=services.settings.threads, zoo=services.settings.zoo)
    source = await find_source(services, caller, body)
    return await to_thread.run_sync(_add, services, caller, body, options, source)


@dataclass(frozen=True, slots=True)
class JobSource:
    """A file to enhance: an upload, or what an earlier job had."""

    path: FolderPath
    title: str
    upload: Upload | None = None
    again: JobRecord | None = None

    @property
    def length_s(self) -> float | None:
        """The file's length, where it is known."""
        return None if self.upload is None or self.upload.probe is None else self.upload.probe["duration_s"]


async def find_source(services: Services, caller: Principal, body: SourceIn) -> JobSource:
    """Return the file of a request.

    Raises:
        UploadError: The upload is nothing to enhance, or is not looked into in time.
        JobNotFoundError: There is no such job.
        ApiError: The job is someone else's, its file is gone, or the part begins after the file's end.
    """
    if body.file is not None:
        upload = await wait_checked(services, caller, body.file)
        source = JobSource(services.uploads.path(upload), upload.name, upload=upload)
    else:
        job = await to_thread.run_sync(own_job, services, caller, body.again or "")
        if not await to_thread.run_sync(job.source.is_file):
            gone = f"the file of {job.title} is no longer on this server; upload it again"
            raise ApiError(409, "source_gone", gone)
        source = JobSource(job.source, job.title, again=job)
    if source.length_s is not None and body.start_s is not None and body.start_s >= source.length_s:
        late = f"start_s is {body.start_s}, but {source.title} ends at {source.length_s:g} s; choose an earlier start"
        raise ApiError(422, "option", late, field="start_s")
    return source


async def wait_checked(services: Services, caller: Principal, upload_id: str) -> Upload:
    """Wait until an upload has been looked into; of many that wait, none holds a thread.

    Raises:
        UploadError: It is nothing to enhance, or is not looked into in time.
    """
    for _ in range(round(_CHECK_S / _LOOK_EVERY_S)):
        upload = await to_thread.run_sync(services.uploads.get_checked, upload_id, caller.id)
        if upload is not None:
            return upload
        await asyncio.sleep(_LOOK_EVERY_S)
    raise UploadError("the file is still being looked into; try again in a moment")


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
    job = _note_estimate(services, job, source, options)
    services.accounts.audit.add(caller.actor, "job_added", f"{job.id} {source.title}")
    return show(services, job)


def _note_estimate(services: Services, job: JobRecord, source: JobSource, options: EnhanceOptions) -> JobRecord:
    """Note on a job how long it will probably take, where a trial told that already."""
    from appliance.jobs.estimate import estimate

    settings = services.settings
    tried = replace(options, backend=settings.backend, precision=settings.precision)
    measured = services.estimates.get(source.path, tried)
    if measured is None:
        return job
    try:
        time_s = estimate(source.path, tried, settings.data, measured=measured).time_s
    except RelumeError:
        # The job tells it itself.
        return job
    return services.queue.set_estimate(job.id, json.dumps({"time_s": time_s}))


@router.get("/api/jobs/{job_id}", summary="Show a job")
def get_job(services: ServicesDep, caller: Viewer, job_id: JobId) -> JobOut:
    """Return one job."""
    return show(services, seen_job(services, caller, job_id))


@router.delete("/api/jobs/{job_id}", status_code=204, summary="Remove a finished job", response_class=Response)
def remove_job(services: ServicesDep, caller: Operator, job_id: JobId) -> Response:
    """Forget a job that has ended, with its upload and its result here; results in other folders stay."""
    job = own_job(services, caller, job_id)
    services.queue.remove(job_id)
    services.accounts.audit.add(caller.actor, "job_removed", f"{job.id} {job.title}")
    services.uploads.tidy(services.upload_writer.busy)
    return Response(status_code=204)


@router.patch("/api/jobs/{job_id}", summary="Change a job's turn")
def change_job(services: ServicesDep, caller: Operator, job_id: JobId, body: JobChange) -> JobOut:
    """Set a job's priority, put it before another queued one (with null at the end), or change its wishes.

    The wishes can be changed as long as nothing of the job was done.
    """
    job = own_job(services, caller, job_id)
    if body.wishes is not None:
        settings = services.settings
        job = services.queue.change_options(job_id, body.wishes.options(threads=settings.threads, zoo=settings.zoo))
        services.accounts.audit.add(caller.actor, "job_changed", f"{job.id} {job.title}")
    if "before" in body.model_fields_set:
        job = services.queue.move(job_id, before=body.before)
    if body.priority is not None:
        job = services.queue.prioritise(job_id, body.priority)
    return show(services, job)


class RetryIn(BaseModel):
    """What a retry may do that the first try did not."""

    model_config = ConfigDict(extra="forbid")

    allow_damaged: bool = Field(False, description="Enhance a damaged file as far as it can be read")


@router.post("/api/jobs/{job_id}/{action}", summary="Pause, resume, cancel or retry a job")
def steer_job(
    services: ServicesDep,
    caller: Operator,
    job_id: JobId,
    action: Literal["pause", "resume", "cancel", "retry"],
    body: RetryIn | None = None,
) -> JobOut:
    """Steer a job; 409 where it makes no sense in its state. Only a retry takes a body."""
    own_job(services, caller, job_id)
    if body is not None and action != "retry":
        raise ApiError(422, "invalid", f"only a retry takes other options, not {action}; leave them out")
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
    services.accounts.audit.add(caller.actor, f"job_{action}", f"{job.id} {job.title}")
    return show(services, job)


@router.post("/api/queue/{action}", status_code=204, summary="Pause or resume the queue", response_class=Response)
def hold_queue(services: ServicesDep, caller: Administrator, action: Literal["pause", "resume"]) -> Response:
    """Let no further job start, or go on; a job that runs is not stopped."""
    services.queue.hold(on=action == "pause")
    services.accounts.audit.add(caller.actor, f"queue_{action}", "")
    return Response(status_code=204)


def _copy_thumbnail(found: FolderPath, target: FolderPath) -> None:
    """Give a job the thumbnail of its file; the worker makes one where this does not succeed."""
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, target)


def only_owner(services: Services, caller: Principal) -> str | None:
    """Return the id of the only user whose jobs a caller may see, None where those of all may be seen."""
    everything = not services.settings.own_jobs_only or caller.role is Role.ADMINISTRATOR
    return None if everything else caller.id


def seen_job(services: Services, caller: Principal, job_id: str) -> JobRecord:
    """Return a job that the caller may see.

    Raises:
        JobNotFoundError: There is none, as far as the caller is to know.
    """
    job = services.queue.get(job_id)
    if only_owner(services, caller) not in (None, job.owner):
        raise JobNotFoundError(f"there is no job {job_id}; it may have been removed")
    return job


def own_job(services: Services, caller: Principal, job_id: str) -> JobRecord:
    """Return a job that the caller may steer.

    Raises:
        JobNotFoundError: There is none.
        ApiError: It is someone else's.
    """
    job = seen_job(services, caller, job_id)
    if job.owner != caller.id and caller.role is not Role.ADMINISTRATOR:
        raise ApiError(403, "not_yours", "this job is not yours; its owner or an administrator can do that")
    return job


def show(services: Services, job: JobRecord) -> JobOut:
    """Show a job."""
    return view_job(job, services.queue.files(job.id), services.accounts.users.names())
