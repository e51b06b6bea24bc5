"""Who may call a route: every route names the role that it needs, or that it needs none."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from appliance.accounts.caller import Caller
from appliance.accounts.roles import Role
from appliance.accounts.secrets import same
from appliance.web.refusals import RefusedError
from appliance.web.services import Services, services_of

_COOKIE: Final = "relume_session"
CSRF_HEADER: Final = "x-csrf-token"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def address_of(request: Request) -> str:
    """Give the address of the other end of the connection; forwarded headers are anyone's invention."""
    return request.client.host if request.client else ""


def cookie_name(services: Services) -> str:
    """Give the name of the session's cookie.

    Under TLS it has a prefix with which browsers take it from this server alone (RFC 6265bis, 4.1.3.2): another
    service on the same host name could put a second one beside it and log people out.
    """
    return f"__Host-{_COOKIE}" if services.settings.tls else _COOKIE


def find_caller(request: Request, services: Services) -> Caller | None:
    """Tell who makes a request: by API token if there is one, else by the session's cookie."""
    address = address_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, secret = header.partition(" ")
        return services.accounts.tokens.find(secret.strip(), address) if kind.lower() == "bearer" else None
    secret = request.cookies.get(cookie_name(services), "")
    return services.accounts.sessions.find(secret, address) if secret else None


@dataclass(frozen=True)
class Needs:
    """A dependency that lets in whoever has a role, and gives who it is.

    `in_person` keeps API tokens out: a token that leaked must not be able to make others or change the password. What
    an administrator changes is always done in person: accounts, settings, folders and webhooks give everything away.
    `before_change` lets in who must change the password first, for the change itself and for logging out.
    """

    role: Role
    in_person: bool = False
    before_change: bool = False

    def __call__(self, request: Request) -> Caller:
        """Refuse a caller who is not logged in, has too little a role, or was sent here by another page."""
        services = services_of(request)
        caller = find_caller(request, services)
        if caller is None:
            raise _not_logged_in(request)
        services.visitors.note(caller.address)
        changes = request.method not in _SAFE
        if caller.session and changes and not same(request.headers.get(CSRF_HEADER, ""), caller.csrf):
            raise RefusedError(403, "csrf", "this page is out of date; reload it and try again")
        if caller.must_change and not self.before_change:
            raise RefusedError(
                403, "password_change_needed", "change your password first; it was chosen by someone else"
            )
        if not caller.role.includes(self.role):
            raise RefusedError(
                403, "role", f"this needs the role {self.role}, your role is {caller.role}; ask an administrator"
            )
        in_person = self.in_person or (changes and self.role is Role.ADMINISTRATOR)
        if in_person and caller.session is None:
            raise RefusedError(403, "in_person", "this cannot be done with an API token; log in with name and password")
        return caller


def _not_logged_in(request: Request) -> RefusedError:
    """Say why a browser is not logged in any more, where that is known."""
    services = services_of(request)
    sessions, secret = services.accounts.sessions, request.cookies.get(cookie_name(services), "")
    if secret and sessions.has_expired(secret):
        hours = f"{sessions.idle_hours:g} hour{'' if sessions.idle_hours == 1 else 's'}"
        return RefusedError(401, "session_expired", f"you were logged out after {hours} without activity; log in again")
    return RefusedError(401, "login_needed", "you are logged out; log in to continue")


@dataclass(frozen=True)
class Open:
    """A dependency that marks a route as needing no log-in."""

    def __call__(self) -> None:
        """Let everyone in."""


async def _services(request: Request) -> Services:
    # Async, since FastAPI sends every other dependency on a trip to a thread.
    return services_of(request)


ServicesHere = Annotated[Services, Depends(_services)]
Viewer = Annotated[Caller, Depends(Needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(Needs(Role.OPERATOR))]
Administrator = Annotated[Caller, Depends(Needs(Role.ADMINISTRATOR))]
Person = Annotated[Caller, Depends(Needs(Role.VIEWER, in_person=True))]
Changing = Annotated[Caller, Depends(Needs(Role.VIEWER, in_person=True, before_change=True))]
Leaving = Annotated[Caller, Depends(Needs(Role.VIEWER, before_change=True))]
