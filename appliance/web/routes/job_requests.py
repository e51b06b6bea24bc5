"""Requests that several routes share: options and source of a job, and which jobs a caller may see or change."""

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final, Literal

from anyio import to_thread
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from appliance.accounts.principal import Principal, Role
from appliance.errors import UploadError
from appliance.jobs.errors import JobNotFoundError
from appliance.jobs.job import JobRecord
from appliance.web.errors import ApiError
from appliance.web.services import Services
from appliance.web.upload_store import Upload
from runtime.errors import ManifestError, OptionError
from runtime.manifest import find_model
from runtime.options import DEFAULT_PRESET, AudioMode, Codec, EnhanceOptions, LoudnessStandard, check_options
from runtime.presets import resolve_preset

JobId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{16}$")]
_CHECK_S: Final = 120.0
_POLL_EVERY_S: Final = 0.2


class OptionsIn(BaseModel):
    """The options of a job; those left out or null are those of the preset."""

    model_config = ConfigDict(extra="forbid")

    preset: str = Field(DEFAULT_PRESET, max_length=50)
    scale: Literal["auto", 1, 2, 4] | None = None
    strength: float | None = Field(None, ge=0, le=1)
    grain: float | None = Field(None, ge=0, le=1, description="Share of the removed noise to add again as film grain")
    audio: AudioMode | None = None
    loudness: LoudnessStandard | None = None
    codec: Codec | None = None
    allow_damaged: bool = Field(False, description="Enhance a damaged file as far as it can be read")
    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Video model instead of the preset's: an own model of this server, or one that ships with Relume",
    )

    def options(self, *, threads: int = 0, zoo: Path | None = None) -> EnhanceOptions:
        """Return the options; `zoo` is the server's folder of own models.

        Raises:
            OptionError: The options conflict, or the model does not exist.
        """
        options = EnhanceOptions(
            preset=self.preset,
            scale=self.scale,
            strength=self.strength,
            grain=self.grain,
            audio=self.audio,
            loudness=self.loudness,
            codec=self.codec,
            threads=threads or None,
            allow_damaged=self.allow_damaged,
            model=self.model,
            zoo=None if self.model is None else _zoo_of(self.model, zoo),
        )
        resolve_preset(options)
        return options


def _zoo_of(model: str, zoo: Path | None) -> Path | None:
    """Return the folder of own models if it has the model; None for a model that ships with Relume."""
    own = zoo if zoo is not None and (zoo / model).is_dir() else None
    try:
        find_model(model, own)
    except ManifestError as error:
        # The original message names folders of the server.
        raise OptionError(f"there is no model named {model}; see Own models in the settings") from error
    return own


Seconds = Annotated[Decimal, Field(ge=0, max_digits=15, decimal_places=6)]


class TrimmedIn(OptionsIn):
    """The options of a job for a part of a file, or all of it."""

    start_s: Seconds | None = Field(None, description="Start in seconds; left out: the beginning")
    end_s: Seconds | None = Field(None, description="End in seconds (exclusive); left out: the end")

    def options(self, *, threads: int = 0, zoo: Path | None = None) -> EnhanceOptions:
        """Return the options, as `OptionsIn.options` does.

        Raises:
            OptionError: The options conflict, or the model does not exist.
        """
        options = replace(
            super().options(threads=threads, zoo=zoo),
            start=None if self.start_s is None else Fraction(self.start_s),
            end=None if self.end_s is None else Fraction(self.end_s),
        )
        check_options(options)
        return options


class SourceIn(TrimmedIn):
    """The file to enhance: an upload, or the file of an earlier job."""

    file: str | None = Field(None, max_length=50, description="The id of an upload of the caller")
    again: str | None = Field(None, max_length=50, description="Instead: the id of a job whose file is used again")

    @model_validator(mode="after")
    def _check_source(self) -> "SourceIn":
        if (self.file is None) == (self.again is None):
            raise ValueError("set exactly one of file and again")
        return self


@dataclass(frozen=True, slots=True)
class JobSource:
    """A file to enhance: an upload, or the file of an earlier job."""

    path: Path
    title: str
    upload: Upload | None = None
    again: JobRecord | None = None

    @property
    def length_s(self) -> float | None:
        """The duration, if it is known."""
        return None if self.upload is None or self.upload.probe is None else self.upload.probe["duration_s"]


async def find_source(services: Services, caller: Principal, body: SourceIn) -> JobSource:
    """Return the file of a request.

    Raises:
        UploadError: The upload cannot be enhanced, or was not checked in time.
        JobNotFoundError: There is no such job.
        ApiError: The job belongs to someone else, its file no longer exists, or the start is after the end.
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
    """Wait without blocking a thread until an upload has been checked.

    Raises:
        UploadError: It cannot be enhanced, or was not checked in time.
    """
    for _ in range(round(_CHECK_S / _POLL_EVERY_S)):
        upload = await to_thread.run_sync(services.uploads.get_checked, upload_id, caller.id)
        if upload is not None:
            return upload
        await asyncio.sleep(_POLL_EVERY_S)
    raise UploadError("the file is still being checked; try again in a moment")


def only_owner(services: Services, caller: Principal) -> str | None:
    """Return the id of the only user whose jobs a caller may see; None for all jobs."""
    everything = not services.settings.own_jobs_only or caller.role is Role.ADMINISTRATOR
    return None if everything else caller.id


def seen_job(services: Services, caller: Principal, job_id: str) -> JobRecord:
    """Return a job that the caller may see.

    Raises:
        JobNotFoundError: There is none, or the caller must not know of it.
    """
    job = services.queue.get(job_id)
    if only_owner(services, caller) not in (None, job.owner):
        raise JobNotFoundError(f"there is no job {job_id}; it may have been deleted")
    return job


def own_job(services: Services, caller: Principal, job_id: str) -> JobRecord:
    """Return a job that the caller may control.

    Raises:
        JobNotFoundError: There is none.
        ApiError: It belongs to someone else.
    """
    job = seen_job(services, caller, job_id)
    if job.owner != caller.id and caller.role is not Role.ADMINISTRATOR:
        raise ApiError(403, "not_yours", "only its owner or an administrator can change this job")
    return job
