"""Login, logout, setup, and the user's own account: password, preferences, sessions and tokens."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.principal import Principal, Role
from appliance.accounts.sessions import NewSession, short_id
from appliance.errors import AccountError, MailError
from appliance.web.security import (
    AnyUser,
    BrowserUser,
    PasswordChanger,
    Public,
    ServicesDep,
    authenticate,
    client_address,
    cookie_name,
)
from appliance.web.services import Services
from runtime.version import relume_version

router = APIRouter(tags=["accounts"])

Name = Annotated[str, Field(min_length=1, max_length=200)]
Password = Annotated[str, Field(min_length=1, max_length=1000)]


class Credentials(BaseModel):
    """User name and password."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    password: Password


class SetupIn(Credentials):
    """The administrator account, and the secret of the one-time setup link."""

    token: str = Field(min_length=1, max_length=200)


EmailEvent = Literal["done", "failed", "queue_empty"]


class MeIn(BaseModel):
    """Changes to the user's own account; a new password needs the current one."""

    model_config = ConfigDict(extra="forbid")

    password: Password | None = Field(None, description="The current password")
    new_password: Password | None = None
    language: Literal["", "en", "de"] | None = Field(None, description="Language of the page; empty: as in the browser")
    email: Annotated[str, Field(max_length=254)] | None = Field(
        None, description="Address for notifications; empty: none"
    )
    email_events: list[EmailEvent] | None = Field(None, max_length=3, description="Events to send e-mails about")


class MeOut(BaseModel):
    """The logged-in user."""

    id: str
    name: str
    role: Role
    must_change: bool = Field(description="The password must be changed before anything else")
    language: str
    email: str
    email_events: list[str]


class LoginOut(BaseModel):
    """A session of the user; times are seconds since 1970, UTC."""

    id: str
    created_at: float
    last_seen_at: float
    address: str
    agent: str
    current: bool


class SessionOut(BaseModel):
    """The session of this browser; `csrf` is for the header X-CSRF-Token of requests that change something."""

    user: MeOut | None
    csrf: str
    setup_needed: bool
    version: str
    own_jobs_only: bool = Field(description="Users other than administrators see only their own jobs")
    revision: int = Field(description="The number of the last change of the queue, for `since` of the live updates")


class HealthOut(BaseModel):
    """The health of the server."""

    status: str
    version: str


@router.get("/health", dependencies=[Depends(Public())], summary="Health check")
async def health() -> HealthOut:
    """Respond without a login and without accessing the disk."""
    return HealthOut(status="ok", version=relume_version())


@router.get("/api/session", dependencies=[Depends(Public())], summary="Show the session")
def session(request: Request, services: ServicesDep) -> SessionOut:
    """Return the user of this browser's session, and whether the administrator account must still be created."""
    caller = authenticate(request, services)
    return _session(services, caller, setup_needed=caller is None and services.login.needs_setup())


@router.post("/api/setup", dependencies=[Depends(Public())], summary="Create the administrator account")
def set_up(request: Request, response: Response, services: ServicesDep, body: SetupIn) -> SessionOut:
    """Create the administrator account with the one-time setup link, and log in."""
    new = services.login.set_up(
        body.token,
        body.name,
        body.password,
        address=client_address(request),
        old=request.cookies.get(cookie_name(services)),
        agent=_agent(request),
    )
    return _log_in(response, services, new)


@router.get("/api/setup", dependencies=[Depends(Public())], summary="Check a setup link", status_code=204)
def check_setup(services: ServicesDep, token: Annotated[str, Query(max_length=200)]) -> Response:
    """Check that a one-time setup link is still valid (401 if not)."""
    services.login.check_setup_secret(token)
    return Response(status_code=204)


@router.post("/api/login", dependencies=[Depends(Public())], summary="Log in")
def log_in(request: Request, response: Response, services: ServicesDep, body: Credentials) -> SessionOut:
    """Log in with user name and password; too many failures lock for a while (429)."""
    new = services.login.log_in(
        body.name,
        body.password,
        address=client_address(request),
        old=request.cookies.get(cookie_name(services)),
        agent=_agent(request),
    )
    return _log_in(response, services, new)


@router.post("/api/logout", status_code=204, summary="Log out", response_class=Response)
async def log_out(services: ServicesDep, caller: AnyUser) -> Response:
    """End this browser's session and its live updates."""
    from anyio import to_thread

    if caller.session is not None:
        await to_thread.run_sync(lambda: services.sessions.end(caller, actor=caller.actor))
        services.broadcaster.drop(caller.session)
    response = Response(status_code=204)
    response.delete_cookie(
        cookie_name(services), path="/", secure=services.settings.tls, httponly=True, samesite="strict"
    )
    return response


@router.patch("/api/me", status_code=204, summary="Change the own account", response_class=Response)
def change_me(services: ServicesDep, caller: PasswordChanger, body: MeIn) -> Response:
    """Change the user's password (which ends all other sessions), language or notifications."""
    users = services.users
    if body.new_password is not None or body.password is not None:
        if body.password is None or body.new_password is None:
            raise AccountError("enter the current password and the new one", code="wrong_password", field="password")
        services.login_limiter.count_attempt(caller.name, caller.address)
        users.change_own_password(
            caller.id, body.password, body.new_password, actor=caller.actor, keep_session=caller.session
        )
        services.login_limiter.reset(caller.name, caller.address)
    events = None if body.email_events is None else tuple(dict.fromkeys(body.email_events))
    users.set_profile(caller.id, language=body.language, email=body.email, events=events)
    return Response(status_code=204)


@router.post("/api/me/test-mail", status_code=204, summary="Send a test e-mail", response_class=Response)
def test_mail(services: ServicesDep, caller: BrowserUser) -> Response:
    """Send a test message to the user's own address immediately, and report a problem."""
    to = services.users.get(caller.id).email
    if not to:
        raise MailError("save your e-mail address first", code="email", field="email")
    services.mailer.test(to)
    return Response(status_code=204)


@router.get("/api/me/sessions", summary="List the own sessions")
def list_sessions(services: ServicesDep, caller: BrowserUser) -> list[LoginOut]:
    """Return the sessions of the user."""
    return [
        LoginOut(
            id=short_id(found.key),
            created_at=found.created_at,
            last_seen_at=found.last_seen_at,
            address=found.address,
            agent=found.agent,
            current=found.key == caller.session,
        )
        for found in services.sessions.list(caller.id)
    ]


@router.delete("/api/me/sessions", status_code=204, summary="Log out everywhere else", response_class=Response)
async def end_sessions(
    services: ServicesDep,
    caller: BrowserUser,
    session: Annotated[
        str | None, Query(max_length=32, description="The id of a session; left out: all others")
    ] = None,
) -> Response:
    """End sessions of the user, but never the current one."""
    from anyio import to_thread

    ended = await to_thread.run_sync(
        lambda: services.sessions.end_for_user(caller.id, keep=caller.session, only=session, actor=caller.actor)
    )
    for key in ended:
        services.broadcaster.drop(key)
    return Response(status_code=204)


def _log_in(response: Response, services: ServicesDep, new: NewSession) -> SessionOut:
    response.set_cookie(
        cookie_name(services),
        new.secret,
        max_age=int(services.settings.session_days * 86_400),
        path="/",
        secure=services.settings.tls,
        httponly=True,
        samesite="strict",
    )
    return _session(services, new.principal, setup_needed=False)


def _agent(request: Request) -> str:
    return "".join(mark for mark in request.headers.get("user-agent", "") if mark.isprintable())


def _session(services: Services, caller: Principal | None, *, setup_needed: bool) -> SessionOut:
    user = None
    if caller is not None:
        own = services.users.get(caller.id)
        user = MeOut(
            id=caller.id,
            name=caller.name,
            role=caller.role,
            must_change=caller.must_change,
            language=own.language,
            email=own.email,
            email_events=list(own.email_events),
        )
    csrf = "" if caller is None else caller.csrf
    return SessionOut(
        user=user,
        csrf=csrf,
        setup_needed=setup_needed,
        version=relume_version(),
        own_jobs_only=caller is not None and services.settings.own_jobs_only,
        revision=0 if caller is None else services.queue.revision(),
    )


TokenId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]


class TokenIn(BaseModel):
    """A new token; its role is never higher than its owner's."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    role: Role | None = Field(None, description="Left out: the role of the owner")
    days: float | None = Field(None, gt=0, le=3650, description="Days until it expires; left out: never")


class TokenOut(BaseModel):
    """A token without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    role: Role
    prefix: str = Field(description="The beginning of the secret")
    created_at: float
    expires_at: float | None
    last_used_at: float | None


class NewTokenOut(TokenOut):
    """A new token with its secret, which cannot be read again."""

    secret: str


@router.get("/api/tokens", summary="List the own tokens")
def list_tokens(services: ServicesDep, caller: BrowserUser) -> list[TokenOut]:
    """Return the tokens of the user."""
    return [TokenOut.model_validate(token) for token in services.tokens.list(caller.id)]


@router.post("/api/tokens", status_code=201, summary="Create a token")
def add_token(services: ServicesDep, caller: BrowserUser, body: TokenIn) -> NewTokenOut:
    """Create a token; only this response contains its secret."""
    token, secret = services.tokens.add(caller, body.name, body.role or caller.role, days=body.days)
    return NewTokenOut(**TokenOut.model_validate(token).model_dump(), secret=secret)


@router.delete("/api/tokens/{token_id}", status_code=204, summary="Delete a token", response_class=Response)
def remove_token(services: ServicesDep, caller: BrowserUser, token_id: TokenId) -> Response:
    """Delete a token; it becomes invalid immediately."""
    services.tokens.remove(caller.id, token_id, actor=caller.actor)
    return Response(status_code=204)
