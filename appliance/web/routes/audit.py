"""The record of who did what, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from appliance.web.access import Administrator, ServicesHere

router = APIRouter(tags=["accounts"])


class EntryOut(BaseModel):
    """One deed; `at` is seconds since 1970, UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: float
    who: str
    what: str
    detail: str
    address: str


class AuditOut(BaseModel):
    """Some deeds, the latest first, and how many there are."""

    entries: list[EntryOut]
    total: int


@router.get("/api/audit", summary="List who did what")
def list_audit(
    services: ServicesHere,
    caller: Administrator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> AuditOut:
    """Give the record, the latest first."""
    del caller
    entries, total = services.accounts.audit.list(limit=limit, offset=offset)
    return AuditOut(entries=[EntryOut.model_validate(entry) for entry in entries], total=total)
