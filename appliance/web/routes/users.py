"""Accounts, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.principal import Role
from appliance.web.errors import ApiError
from appliance.web.routes.account import Credentials, Password
from appliance.web.security import Administrator, ServicesDep

router = APIRouter(tags=["accounts"])

UserId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]


class UserIn(Credentials):
    """A new account."""

    role: Role
    must_change: bool = Field(False, description="The owner has to choose another password at the first log-in")


class UserChange(BaseModel):
    """What to change of an account; a new password ends its log-ins."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    enabled: bool | None = None
    password: Password | None = None
    must_change: bool = Field(False, description="With a new password: it has to be changed at the next log-in")


class UserOut(BaseModel):
    """An account; times are seconds since 1970, UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    role: Role
    enabled: bool
    created_at: float
    last_seen_at: float | None
    must_change: bool


@router.get("/api/users", summary="List the accounts")
def list_users(services: ServicesDep, caller: Administrator) -> list[UserOut]:
    """Return every account."""
    del caller
    return [UserOut.model_validate(user) for user in services.users.list()]


@router.post("/api/users", status_code=201, summary="Make an account")
def add_user(services: ServicesDep, caller: Administrator, body: UserIn) -> UserOut:
    """Make an account."""
    users = services.users
    made = users.add(body.name, body.password, body.role, actor=caller.actor, must_change=body.must_change)
    return UserOut.model_validate(made)


@router.patch("/api/users/{user_id}", summary="Change an account")
def change_user(services: ServicesDep, caller: Administrator, user_id: UserId, body: UserChange) -> UserOut:
    """Change role, password, or whether the account can log in; the last administrator stays one."""
    users = services.users
    user = users.get(user_id)
    if body.password is not None and user_id == caller.id:
        raise ApiError(403, "own_password", "change your own password in your account; it asks for the current one")
    if body.password is not None:
        users.set_password(
            user_id,
            body.password,
            actor=caller.actor,
            keep_session=caller.session,
            must_change=body.must_change,
        )
    if body.role is not None or body.enabled is not None:
        user = users.change(user_id, role=body.role, enabled=body.enabled, actor=caller.actor)
    return UserOut.model_validate(user)


@router.delete("/api/users/{user_id}", status_code=204, summary="Remove an account", response_class=Response)
def remove_user(services: ServicesDep, caller: Administrator, user_id: UserId) -> Response:
    """Remove an account with its tokens and waiting uploads; its jobs stay."""
    services.users.remove(user_id, actor=caller.actor)
    services.uploads.clean_up(services.upload_writer.busy)
    return Response(status_code=204)


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
    services: ServicesDep,
    caller: Administrator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> AuditOut:
    """Return the record, the latest first."""
    del caller
    entries, total = services.audit.list(limit=limit, offset=offset)
    return AuditOut(entries=[EntryOut.model_validate(entry) for entry in entries], total=total)
