"""Jobs: made from uploads, listed, steered and removed."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path as FolderPath
from typing import Annotated, Final, Literal

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.caller import Caller
from appliance.accounts.roles import Role
from appliance.errors import UploadError
from appliance.faults import show_value
from appliance.jobs.queue import JobQueue
from appliance.jobs.records import JobRecord, JobState, NewJob, Origin
from appliance.web.access import Operator, ServicesHere, Viewer
from appliance.web.job_view import JobOut, view_job
from appliance.web.refusals import RefusedError
from appliance.web.services import Services
from appliance.web.uploads import Upload
from runtime.errors import ManifestError, OptionError
from runtime.manifest import find_model
from runtime.options import DEFAULT_PRESET, AudioMode, Codec, EnhanceOptions
from runtime.presets import plan_job

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]
_CHECK_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.2


class WishesIn(BaseModel):
    """How to enhance; what is left out or null is as the preset says."""

    model_config = ConfigDict(extra="forbid")

    preset: str = Field(DEFAULT_PRESET, max_length=50)
    scale: Literal["auto", 1, 2, 4] | None = None
    strength: float | None = Field(None, ge=0, le=1)
    audio: AudioMode | None = None
    codec: Codec | None = None
    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="For the picture, instead of the preset's: a model of the box's own folder, or one that ships",
    )

    def options(self, *, threads: int = 0, zoo: FolderPath | None = None) -> EnhanceOptions:
        """Give the options; `zoo` is the box's own folder of models.

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
            model=self.model,
            zoo=None if self.model is None else _zoo_of(self.model, zoo),
        )
        plan_job(options)
        return options


def _zoo_of(model: str, zoo: FolderPath | None) -> FolderPath | None:
    """Give the folder that holds a model: the box's own, or None for the one that ships."""
    own = zoo if zoo is not None and (zoo / model).is_dir() else None
    try:
        find_model(model, own)
    except ManifestError as error:
        # Its own words would name the box's folders.
        raise OptionError(f"no model named {model} here; the setting Own models names their folder") from error
    return own


class JobIn(WishesIn):
    """A job for an uploaded file."""

    file: str = Field(max_length=50, description="The id of an upload of the caller")
    priority: int = Field(0, ge=-100, le=100, description="Higher runs earlier")
    preview: bool = Field(False, description="Only three seconds from the middle; the file can be used again")


class JobChange(BaseModel):
    """A new priority or a new place among the queued; `before` null is the end of the queue."""

    model_config = ConfigDict(extra="forbid")

    priority: int | None = Field(None, ge=-100, le=100)
    before: str | None = Field(None, max_length=50)


class JobsOut(BaseModel):
    """Jobs, how many there are in each state, and the number of the last change."""

    jobs: list[JobOut]
    counts: dict[JobState, int]
    revision: int


@router.get("/api/jobs", summary="List and search jobs")
def list_jobs(
    services: ServicesHere,
    caller: Viewer,
    state: Annotated[str, Query(max_length=100, description="States, separated by commas; empty for all")] = "",
    text: Annotated[str, Query(max_length=200, description="Part of the title")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> JobsOut:
    """Give jobs: queued ones alone in the order of their turn, all others the newest first."""
    del caller
    try:
        states = [JobState(part) for part in state.split(",") if part] or None
    except ValueError:
        known = ", ".join(JobState)
        raise RefusedError(422, "invalid", f"unknown state {show_value(state)}: {known}", field="state") from None
    # Before the list, so that what changes meanwhile is told once more and not lost.
    revision = services.queue.revision()
    jobs = services.queue.list(states=states, text=text, limit=limit, offset=offset)
    names = services.accounts.users.names()
    return JobsOut(
        jobs=[view_job(job, services.queue.files(job.id), names) for job in jobs],
        counts=services.queue.counts(),
        revision=revision,
    )


@router.post("/api/jobs", status_code=201, summary="Make a job")
async def add_job(services: ServicesHere, caller: Operator, body: JobIn) -> JobOut:
    """Queue an uploaded file for enhancement, or a preview of it."""
    options = body.options(threads=services.settings.threads, zoo=services.settings.zoo)
    upload = await wait_checked(services, caller, body.file)
    return await to_thread.run_sync(_add, services, caller, body, options, upload)


async def wait_checked(services: Services, caller: Caller, upload_id: str) -> Upload:
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


def _add(services: Services, caller: Caller, body: JobIn, options: EnhanceOptions, upload: Upload) -> JobOut:
    new = NewJob(
        source=services.uploads.path(upload),
        title=upload.name,
        options=options,
        owner=caller.id,
        origin=Origin.UPLOAD,
        priority=body.priority,
        preview_of=upload.id if body.preview else None,
    )
    with services.database.transaction():
        job = services.queue.add(new)
        if not body.preview:
            services.uploads.assign(upload, job.id)
    _keep_thumbnail(services, upload, job)
    services.accounts.audit.add(caller.actor, "job_added", f"{job.id} {upload.name}")
    return show(services, job)


@router.get("/api/jobs/{job_id}", summary="Show a job")
def get_job(services: ServicesHere, caller: Viewer, job_id: JobId) -> JobOut:
    """Give one job."""
    del caller
    return show(services, services.queue.get(job_id))


@router.delete("/api/jobs/{job_id}", status_code=204, summary="Remove a finished job", response_class=Response)
def remove_job(services: ServicesHere, caller: Operator, job_id: JobId) -> Response:
    """Forget a job that has ended, with its upload and its result here; results in other folders stay."""
    job = own_job(services, caller, job_id)
    services.queue.remove(job_id)
    services.accounts.audit.add(caller.actor, "job_removed", f"{job.id} {job.title}")
    services.uploads.tidy(services.receiver.busy)
    return Response(status_code=204)


@router.patch("/api/jobs/{job_id}", summary="Change a job's turn")
def change_job(services: ServicesHere, caller: Operator, job_id: JobId, body: JobChange) -> JobOut:
    """Set a job's priority, or put it before another queued one, or with null at the end."""
    job = own_job(services, caller, job_id)
    if "before" in body.model_fields_set:
        job = services.queue.move(job_id, before=body.before)
    if body.priority is not None:
        job = services.queue.prioritise(job_id, body.priority)
    return show(services, job)


@router.post("/api/jobs/{job_id}/{action}", summary="Pause, resume, cancel or retry a job")
def steer_job(
    services: ServicesHere, caller: Operator, job_id: JobId, action: Literal["pause", "resume", "cancel", "retry"]
) -> JobOut:
    """Steer a job; 409 where it makes no sense in its state."""
    own_job(services, caller, job_id)
    steps = {
        "pause": JobQueue.pause,
        "resume": JobQueue.resume,
        "cancel": JobQueue.cancel,
        "retry": JobQueue.retry,
    }
    job = steps[action](services.queue, job_id)
    services.accounts.audit.add(caller.actor, f"job_{action}", f"{job.id} {job.title}")
    return show(services, job)


def _keep_thumbnail(services: Services, upload: Upload, job: JobRecord) -> None:
    """Give the job the upload's thumbnail; the worker makes one where this does not succeed."""
    target = services.queue.files(job.id).thumbnail
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(services.uploads.thumbnail(upload.id), target)


def own_job(services: Services, caller: Caller, job_id: str) -> JobRecord:
    """Give a job that the caller may steer.

    Raises:
        JobNotFoundError: There is none.
        RefusedError: It is someone else's.
    """
    job = services.queue.get(job_id)
    if job.owner != caller.id and caller.role is not Role.ADMINISTRATOR:
        raise RefusedError(403, "not_yours", "this job is not yours; its owner or an administrator can do that")
    return job


def show(services: Services, job: JobRecord) -> JobOut:
    """Show a job."""
    return view_job(job, services.queue.files(job.id), services.accounts.users.names())
