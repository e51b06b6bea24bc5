"""The box itself: what it is doing, live updates, and figures for Prometheus."""

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from appliance.accounts.roles import Role
from appliance.web.access import ServicesHere, Viewer
from appliance.web.metrics import CONTENT_TYPE, write_metrics
from appliance.web.refusals import RefusedError

router = APIRouter(tags=["box"])


class DiskOut(BaseModel):
    """The disk of the data directory, in bytes."""

    free: int
    total: int
    reserve: int = Field(description="What uploads and jobs never touch")


class MemoryOut(BaseModel):
    """The memory of the box, what is free of it, and what the server holds; bytes."""

    total: int
    free: int
    server: int


class EngineOut(BaseModel):
    """A model that is installed."""

    name: str
    title: str
    task: str
    licence: str
    precision: str
    backend: str = Field(description="What runs it from now on")
    reason: str = Field(description="Why that")
    sha256: str = Field(description="Of the model's first file")


class SystemOut(BaseModel):
    """The box; the end of the log is for administrators, others get none."""

    version: str
    device: str
    backend: str
    precision: str
    engines: list[EngineOut]
    disk: DiskOut
    memory: MemoryOut
    temperature_c: float | None
    load: float
    cores: int
    settings_fallback: bool = Field(description="The saved settings cannot be used; the last that worked are")
    workers: list[dict[str, Any]]
    log_tail: list[str]
    uptime_s: float


@router.get("/api/system", summary="Show the box")
def system(services: ServicesHere, caller: Viewer) -> SystemOut:
    """Give what the box is and how it is doing."""
    return SystemOut(**services.system.full(with_log=caller.role is Role.ADMINISTRATOR))


@router.get(
    "/api/events",
    summary="Live updates",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(services: ServicesHere, caller: Viewer) -> StreamingResponse:
    """Tell what changes as server-sent events.

    `job` carries a job, or `{"id", "removed": true}`; `counts` how many there are in each state; `queue`
    whether it is held; `system` disk, temperature and load; `resync` asks to fetch the list anew.
    """
    if services.broadcaster.is_full():
        raise RefusedError(503, "too_many", "too many pages are open; close some")
    return StreamingResponse(
        services.broadcaster.listen(caller),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: ServicesHere, caller: Viewer) -> Response:
    """Give figures in the text format of Prometheus; a token of role viewer is enough."""
    del caller
    return Response(await to_thread.run_sync(write_metrics, services), media_type=CONTENT_TYPE)
