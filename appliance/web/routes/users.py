"""Users and the audit log; for administrators."""

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
    """A new user."""

    role: Role
    must_change: bool = Field(False, description="The user must change the password at the first login")


class UserChange(BaseModel):
    """Changes to a user; a new password ends their sessions."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    enabled: bool | None = None
    password: Password | None = None
    must_change: bool = Field(False, description="With a new password: it must be changed at the next login")


class UserOut(BaseModel):
    """A user; times are seconds since 1970, UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    role: Role
    enabled: bool
    created_at: float
    last_seen_at: float | None
    must_change: bool


@router.get("/api/users", summary="List users")
def list_users(services: ServicesDep, caller: Administrator) -> list[UserOut]:
    """Return all users."""
    del caller
    return [UserOut.model_validate(user) for user in services.users.list()]


@router.post("/api/users", status_code=201, summary="Create a user")
def add_user(services: ServicesDep, caller: Administrator, body: UserIn) -> UserOut:
    """Create a user."""
    users = services.users
    created = users.add(body.name, body.password, body.role, actor=caller.actor, must_change=body.must_change)
    return UserOut.model_validate(created)


@router.patch("/api/users/{user_id}", summary="Change a user")
def change_user(services: ServicesDep, caller: Administrator, user_id: UserId, body: UserChange) -> UserOut:
    """Change role or password, or enable or disable a user; one administrator must remain."""
    users = services.users
    user = users.get(user_id)
    if body.password is not None and user_id == caller.id:
        raise ApiError(
            403, "own_password", "change your own password on your account page, which asks for the current one"
        )
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


@router.delete("/api/users/{user_id}", status_code=204, summary="Delete a user", response_class=Response)
def remove_user(services: ServicesDep, caller: Administrator, user_id: UserId) -> Response:
    """Delete a user with their tokens and waiting uploads; their jobs are kept."""
    services.users.remove(user_id, actor=caller.actor)
    services.uploads.clean_up(services.upload_writer.busy)
    return Response(status_code=204)


class EntryOut(BaseModel):
    """An action; `at` is seconds since 1970, UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: float
    who: str
    what: str
    detail: str
    address: str


class AuditOut(BaseModel):
    """A page of the audit log, newest first, and the total number of actions."""

    entries: list[EntryOut]
    total: int


@router.get("/api/audit", summary="List the audit log")
def list_audit(
    services: ServicesDep,
    caller: Administrator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> AuditOut:
    """Return a page of the audit log, newest first."""
    del caller
    entries, total = services.audit.list(limit=limit, offset=offset)
    return AuditOut(entries=[EntryOut.model_validate(entry) for entry in entries], total=total)
