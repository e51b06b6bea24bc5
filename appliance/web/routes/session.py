"""Logging in and out, the first account, and one's own password."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.caller import Caller
from appliance.accounts.roles import Role
from appliance.accounts.sessions import NewSession
from appliance.web.access import COOKIE, Open, Person, ServicesHere, Viewer, address_of, find_caller
from runtime.version import relume_version

router = APIRouter(tags=["session"])

Name = Annotated[str, Field(min_length=1, max_length=200)]
Password = Annotated[str, Field(min_length=1, max_length=1000)]


class Credentials(BaseModel):
    """Name and password."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    password: Password


class SetupIn(Credentials):
    """The first account, and the secret of the one-time link."""

    token: str = Field(min_length=1, max_length=200)


class PasswordIn(BaseModel):
    """A new password for oneself."""

    model_config = ConfigDict(extra="forbid")

    password: Password = Field(description="The present one")
    new_password: Password


class MeOut(BaseModel):
    """Who is logged in."""

    id: str
    name: str
    role: Role


class SessionOut(BaseModel):
    """The state of this browser; `csrf` goes into the header X-CSRF-Token of every change."""

    user: MeOut | None
    csrf: str
    setup_needed: bool
    version: str


class HealthOut(BaseModel):
    """The server answers."""

    status: str
    version: str


@router.get("/health", dependencies=[Depends(Open())], summary="Tell that the server answers")
async def health() -> HealthOut:
    """Answer without a log-in and without touching the disk."""
    return HealthOut(status="ok", version=relume_version())


@router.get("/api/session", dependencies=[Depends(Open())], summary="Tell who is logged in")
def session(request: Request, services: ServicesHere) -> SessionOut:
    """Give who is logged in in this browser, if anyone, and whether the box needs its first account."""
    caller = find_caller(request, services)
    return _session(caller, setup_needed=caller is None and services.accounts.entrance.needs_setup())


@router.post("/api/setup", dependencies=[Depends(Open())], summary="Make the first account")
def set_up(request: Request, response: Response, services: ServicesHere, body: SetupIn) -> SessionOut:
    """Make the first account, an administrator, with the one-time link, and log it in."""
    new = services.accounts.entrance.set_up(
        body.token, body.name, body.password, address=address_of(request), old=request.cookies.get(COOKIE)
    )
    return _log_in(response, services, new)


@router.get("/api/setup", dependencies=[Depends(Open())], summary="Check a setup link", status_code=204)
def check_setup(services: ServicesHere, token: Annotated[str, Query(max_length=200)]) -> Response:
    """Tell whether a one-time link can still be used, before anything is typed (401: it cannot)."""
    services.accounts.entrance.check_setup_secret(token)
    return Response(status_code=204)


@router.post("/api/login", dependencies=[Depends(Open())], summary="Log in")
def log_in(request: Request, response: Response, services: ServicesHere, body: Credentials) -> SessionOut:
    """Log in with name and password; too many wrong ones lock for a while (429)."""
    new = services.accounts.entrance.log_in(
        body.name, body.password, address=address_of(request), old=request.cookies.get(COOKIE)
    )
    return _log_in(response, services, new)


@router.post("/api/logout", status_code=204, summary="Log out", response_class=Response)
async def log_out(services: ServicesHere, caller: Viewer) -> Response:
    """End this browser's log-in and its live updates."""
    from anyio import to_thread

    if caller.session is not None:
        await to_thread.run_sync(lambda: services.accounts.sessions.end(caller, actor=caller.actor))
        services.broadcaster.drop(caller.session)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", secure=services.settings.tls, httponly=True, samesite="strict")
    return response


@router.patch("/api/me", status_code=204, summary="Change one's own password", response_class=Response)
def change_password(services: ServicesHere, caller: Person, body: PasswordIn) -> Response:
    """Change one's own password; every other log-in of the account ends."""
    services.accounts.attempts.begin(caller.name, caller.address)
    services.accounts.users.change_own_password(
        caller.id, body.password, body.new_password, actor=caller.actor, keep_session=caller.session
    )
    services.accounts.attempts.forgive(caller.name, caller.address)
    return Response(status_code=204)


def _log_in(response: Response, services: ServicesHere, new: NewSession) -> SessionOut:
    response.set_cookie(
        COOKIE,
        new.secret,
        max_age=int(services.settings.session_days * 86_400),
        path="/",
        secure=services.settings.tls,
        httponly=True,
        samesite="strict",
    )
    return _session(new.caller, setup_needed=False)


def _session(caller: Caller | None, *, setup_needed: bool) -> SessionOut:
    user = None if caller is None else MeOut(id=caller.id, name=caller.name, role=caller.role)
    csrf = "" if caller is None else caller.csrf
    return SessionOut(user=user, csrf=csrf, setup_needed=setup_needed, version=relume_version())
