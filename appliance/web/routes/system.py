"""System status, live updates, metrics and engines."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Response
from fastapi import Path as PathParameter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.principal import Role
from appliance.web.errors import ApiError
from appliance.web.metrics import CONTENT_TYPE, write_metrics
from appliance.web.security import Administrator, ServicesDep, Viewer
from runtime.engine.store.inventory import find_listed, list_engines
from runtime.engine.store.store import EngineStore

router = APIRouter(tags=["system"])


class DiskOut(BaseModel):
    """The disk of the data directory, in bytes."""

    free: int
    total: int
    reserve: int = Field(description="Space that uploads and jobs leave free")


class MemoryOut(BaseModel):
    """The memory of the machine, and that of the server process, in bytes."""

    total: int
    free: int
    server: int


class EngineOut(BaseModel):
    """An installed model, and how jobs run it."""

    name: str
    title: str
    task: str
    licence: str
    precision: str
    backend: str = Field(description="The backend of the next job")
    reason: str = Field(description="Why this backend was chosen")
    sha256: str = Field(description="Digest of the first file of the model")


class SystemOut(BaseModel):
    """The state of the server; only administrators get the end of the log."""

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
    settings_fallback: bool = Field(
        description="The saved settings cannot be used; the server runs with the previous ones"
    )
    workers: list[dict[str, Any]]
    log_tail: list[str]
    uptime_s: float


@router.get("/api/system", summary="Show the system status")
def system(services: ServicesDep, caller: Viewer) -> SystemOut:
    """Return the machine, models, workers and resources."""
    return SystemOut(**services.system.full(with_log=caller.role is Role.ADMINISTRATOR))


def _check_capacity(services: ServicesDep) -> None:
    if services.broadcaster.is_full():
        raise ApiError(503, "too_many", "too many pages are open; close some")


@router.get(
    "/api/events",
    summary="Live updates",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    services: ServicesDep,
    caller: Viewer,
    _: Annotated[None, Depends(_check_capacity)],
    since: Annotated[
        int | None, Query(ge=0, description="The revision that the client knows; later changes are sent first")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Stream changes as server-sent events.

    `job` has a job, or `{"id", "removed": true}`; `counts` has the number of jobs in each state; `queue` states whether
    the queue is paused; `system` has disk, temperature and load; `folders` means that watch folders changed; `resync`
    means that events were lost: fetch the list again.
    """
    async for event in services.broadcaster.listen(caller, since):
        yield event


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: ServicesDep, caller: Viewer) -> Response:
    """Return metrics in the Prometheus text format; a token with the role viewer is sufficient."""
    del caller
    return Response(await to_thread.run_sync(write_metrics, services), media_type=CONTENT_TYPE)


EngineName = Annotated[str, PathParameter(pattern=r"^[a-z0-9._-]{1,400}$")]


class BuiltEngineOut(BaseModel):
    """An engine: ready, requested, being built, or failed."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    model: str
    precision: str
    sizes: str
    flavour: str
    runtime_version: str = Field(description="Version of the inference library")
    device: str
    state: str = Field(description="ready, outdated, building, waiting, quarantined; or built, not tested")
    size_bytes: int
    last_used: float | None
    reason: str = Field(description="Why it is outdated or quarantined")


@router.get("/api/engines", summary="List the engines")
def list_built(services: ServicesDep, caller: Viewer) -> list[BuiltEngineOut]:
    """Return all engines with their states."""
    del caller
    return [BuiltEngineOut.model_validate(engine) for engine in list_engines(EngineStore(services.settings.engines))]


@router.post("/api/engines/{name}/rebuild", status_code=204, summary="Rebuild an engine", response_class=Response)
def rebuild(services: ServicesDep, caller: Administrator, name: EngineName) -> Response:
    """Request a rebuild of an engine, also of a failed one; it starts when no job is running."""
    store = EngineStore(services.settings.engines)
    request = find_listed(store, name)
    if request is None:
        raise ApiError(404, "not_found", f"there is no engine {name}; reload the list")
    if not store.request_build(request, again=True):
        raise ApiError(409, "engine", "the engine cannot be rebuilt; see the server log")
    services.audit.add(caller.actor, "engine_rebuild", name)
    return Response(status_code=204)
