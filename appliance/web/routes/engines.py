"""The engines that were built for this box, and the wish to build one again."""

from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from appliance.web.access import Administrator, ServicesHere, Viewer
from appliance.web.refusals import RefusedError
from runtime.engine.store.listing import find_listed, list_engines
from runtime.engine.store.store import EngineStore

router = APIRouter(tags=["box"])

EngineName = Annotated[str, PathParameter(pattern=r"^[a-z0-9._-]{1,400}$")]


class BuiltEngineOut(BaseModel):
    """An engine: built, wanted, being built, or failed."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    model: str
    precision: str
    sizes: str
    flavour: str
    runtime_version: str = Field(description="Of the library that runs it")
    device: str
    state: str = Field(description="ready, outdated, building, waiting, quarantined; or built, not proven")
    size_bytes: int
    last_used: float | None
    reason: str = Field(description="Why it is outdated or in quarantine")


@router.get("/api/engines", summary="List the engines")
def list_built(services: ServicesHere, caller: Viewer) -> list[BuiltEngineOut]:
    """Give every engine of the store with its state."""
    del caller
    return [BuiltEngineOut.model_validate(engine) for engine in list_engines(EngineStore(services.settings.engines))]


@router.post("/api/engines/{name}/rebuild", status_code=204, summary="Build an engine again", response_class=Response)
def rebuild(services: ServicesHere, caller: Administrator, name: EngineName) -> Response:
    """Ask for an engine again, also for one that failed; it is built as soon as no job runs."""
    store = EngineStore(services.settings.engines)
    request = find_listed(store, name)
    if request is None:
        raise RefusedError(404, "not_found", f"there is no engine {name} that could be built again; load the list anew")
    if not store.want(request, again=True):
        raise RefusedError(409, "engine", "the engine cannot be asked for; the log of the box says why")
    services.accounts.audit.add(caller.actor, "engine_rebuild", name)
    return Response(status_code=204)
