"""Estimates of time, memory and disk space before a job starts."""

import asyncio
from dataclasses import replace
from typing import Final

from anyio import to_thread
from fastapi import APIRouter
from pydantic import BaseModel, Field

from appliance.jobs.estimate_process import Measured
from appliance.jobs.job import JobState
from appliance.web.errors import ApiError, status_and_code
from appliance.web.routes.job_requests import JobSource, SourceIn, find_source
from appliance.web.security import Operator, ServicesDep
from appliance.web.services import Services
from runtime.errors import RelumeError
from runtime.options import EnhanceOptions
from runtime.plan import JobPlan, plan_job

router = APIRouter(tags=["jobs"])

_WAIT_S: Final = 60.0


class EstimateIn(SourceIn):
    """The planned job."""

    quick: bool = Field(False, description="Respond immediately, without a test run")


class ResultOut(BaseModel):
    """The expected result; null if the source has no video, or if unknown."""

    has_video: bool
    source_width: int | None
    source_height: int | None
    width: int | None
    height: int | None
    scale: int | None
    codec: str | None
    suffix: str
    duration_s: float | None = Field(description="Duration of the whole source")
    size_bytes: int | None


class EstimateOut(BaseModel):
    """The estimate; null if unknown. `message` is a summary for people."""

    is_measured: bool = Field(
        description="From a test run of this file with these options; otherwise derived from other files"
    )
    time_s: float | None
    memory_bytes: int | None
    disk_needed_bytes: int | None
    disk_free_bytes: int | None
    fits: bool
    message: str
    result: ResultOut


@router.post("/api/estimates", summary="Estimate a job")
async def estimate(services: ServicesDep, caller: Operator, body: EstimateIn) -> EstimateOut:
    """Estimate time, memory and disk space from a test run of two seconds, which takes a while and is cached.

    While a job is running there is no test run, which would slow both down; the estimate is then derived from earlier
    ones.
    """
    settings = services.settings
    requested = body.options(threads=settings.threads, zoo=settings.zoo)
    options = replace(requested, backend=settings.backend, precision=settings.precision)
    source = await find_source(services, caller, body)
    known = services.estimates.get(source.path, options)
    if known is None and not body.quick and not await to_thread.run_sync(_is_busy, services):
        known = await _test_run_exclusively(services, source, options)
    return await to_thread.run_sync(_answer, services, source, options, known)


async def _test_run_exclusively(services: Services, source: JobSource, options: EnhanceOptions) -> Measured:
    try:
        async with asyncio.timeout(_WAIT_S):
            await services.estimate_lock.acquire()
    except TimeoutError:
        busy = "test runs of other files are in progress; try again in a minute, or start the job"
        raise ApiError(503, "busy", busy) from None
    try:
        # Another request may have measured it in the meantime.
        found = services.estimates.get(source.path, options)
        return found if found is not None else await to_thread.run_sync(_test_run, services, source, options)
    finally:
        services.estimate_lock.release()


def _is_busy(services: Services) -> bool:
    return services.queue.counts()[JobState.RUNNING] > 0


def _test_run(services: Services, source: JobSource, options: EnhanceOptions) -> Measured:
    from appliance.jobs.estimate import try_out

    whole = replace(options, start=None, end=None)
    try:
        plan = plan_job(source.path, None, whole)
        measured = try_out(source.path, whole, services.settings.data)
    except RelumeError as error:
        raise _refusal(error, source) from error
    services.estimates.put(source.path, options, plan, measured)
    return measured


def _answer(services: Services, source: JobSource, options: EnhanceOptions, known: Measured | None) -> EstimateOut:
    from appliance.jobs.estimate import estimate as make_estimate

    settings = services.settings
    try:
        plan = plan_job(source.path, None, options)
        measured = known or services.estimates.scale(plan)
        if measured is None:
            return EstimateOut(
                is_measured=False,
                time_s=services.estimates.time_from_history(plan),
                memory_bytes=None,
                disk_needed_bytes=None,
                disk_free_bytes=None,
                fits=True,
                message="time not known yet",
                result=_result(plan, None),
            )
        found = make_estimate(
            source.path,
            options,
            settings.data,
            memory_limit_bytes=settings.worker_memory_bytes,
            reserve_bytes=settings.disk_reserve_bytes,
            measured=measured,
        )
    except RelumeError as error:
        raise _refusal(error, source) from error
    # A derived estimate must not prevent a job that a test run may find to fit.
    return EstimateOut(
        is_measured=known is not None,
        time_s=found.time_s,
        memory_bytes=found.memory_bytes,
        disk_needed_bytes=found.disk_needed_bytes,
        disk_free_bytes=found.disk_free_bytes,
        fits=found.fits or known is None,
        message=found.message,
        result=_result(plan, found.result_bytes),
    )


def _result(plan: JobPlan, size_bytes: int | None) -> ResultOut:
    video, duration = plan.video, plan.info.duration
    scale = 1 if video is None else video.scale.scale
    return ResultOut(
        has_video=plan.info.video is not None,
        source_width=None if video is None else video.stream.width,
        source_height=None if video is None else video.stream.height,
        width=None if video is None else video.stream.width * scale,
        height=None if video is None else video.stream.height * scale,
        scale=None if video is None else scale,
        codec=None if video is None else video.codec,
        suffix=plan.target.suffix,
        duration_s=None if duration is None else float(duration),
        size_bytes=size_bytes,
    )


def _refusal(error: RelumeError, source: JobSource) -> ApiError:
    return ApiError(*status_and_code(error), str(error).replace(str(source.path), source.title))
