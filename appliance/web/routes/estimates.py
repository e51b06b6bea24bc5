"""What a job will probably take, told before it starts."""

import asyncio
from dataclasses import replace
from typing import Final

from anyio import to_thread
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from appliance.web.access import Operator, ServicesHere
from appliance.web.refusals import RefusedError, answer_of
from appliance.web.routes.jobs import WishesIn, wait_checked
from appliance.web.services import Services
from appliance.web.uploads import Upload
from runtime.errors import RelumeError
from runtime.options import EnhanceOptions

router = APIRouter(tags=["jobs"])

_WAIT_S: Final = 60.0


class EstimateIn(WishesIn):
    """The job that is thought of."""

    file: str = Field(max_length=50, description="The id of an upload of the caller")


class EstimateOut(BaseModel):
    """What it will probably take; `message` says it in words."""

    model_config = ConfigDict(from_attributes=True)

    time_s: float
    memory_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int
    fits: bool
    message: str


@router.post("/api/estimates", summary="Estimate a job")
async def estimate(services: ServicesHere, caller: Operator, body: EstimateIn) -> EstimateOut:
    """Try two seconds of the file, which takes a while, and tell time, memory and disk for all of it."""
    settings = services.settings
    wishes = body.options(threads=settings.threads, zoo=settings.zoo)
    options = replace(wishes, backend=settings.backend, precision=settings.precision)
    upload = await wait_checked(services, caller, body.file)
    try:
        async with asyncio.timeout(_WAIT_S):
            await services.trial.acquire()
    except TimeoutError:
        busy = "other files are being tried out; try again in a minute, or start the job"
        raise RefusedError(503, "busy", busy) from None
    try:
        return await to_thread.run_sync(_try, services, upload, options)
    finally:
        services.trial.release()


def _try(services: Services, upload: Upload, options: EnhanceOptions) -> EstimateOut:
    from appliance.jobs.admission import estimate as try_job

    path, settings = services.uploads.path(upload), services.settings
    try:
        found = try_job(
            path,
            options,
            settings.data,
            memory_limit_bytes=settings.worker_memory_bytes,
            reserve_bytes=settings.disk_reserve_bytes,
        )
    except RelumeError as error:
        raise RefusedError(*answer_of(error), str(error).replace(str(path), upload.name)) from error
    return EstimateOut.model_validate(found)
