"""What a job will probably take, told before it starts."""

import threading

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from appliance.web.access import Operator, ServicesHere
from appliance.web.refusals import RefusedError, answer_of
from appliance.web.routes.jobs import WishesIn
from runtime.errors import RelumeError

router = APIRouter(tags=["jobs"])

_CHECK_S = 30.0
_WAIT_S = 60.0
_one_at_a_time = threading.Semaphore()
"""Two trials at once would both come out too slow."""


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
def estimate(services: ServicesHere, caller: Operator, body: EstimateIn) -> EstimateOut:
    """Try two seconds of the file, which takes a while, and tell time, memory and disk for all of it."""
    from appliance.jobs.admission import estimate as try_job

    settings = services.settings
    options = body.options(threads=settings.threads)
    upload = services.uploads.wait_checked(body.file, caller.id, timeout_s=_CHECK_S)
    path = services.uploads.path(upload)
    if not _one_at_a_time.acquire(timeout=_WAIT_S):
        raise RefusedError(503, "busy", "other files are being tried out; try again in a minute, or start the job")
    try:
        found = try_job(path, options, settings.data, memory_limit_bytes=settings.worker_memory_bytes)
    except RelumeError as error:
        raise RefusedError(*answer_of(error), str(error).replace(str(path), upload.name)) from error
    finally:
        _one_at_a_time.release()
    return EstimateOut.model_validate(found)
