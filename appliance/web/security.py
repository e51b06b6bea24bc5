"""Security of all routes: host and origin checks, body limits, security headers, authentication and roles."""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.accounts.credentials import equal_secrets
from appliance.accounts.principal import Principal, Role
from appliance.web.errors import ApiError, error_response
from appliance.web.services import Services, get_services
from appliance.web.upload_store import UPLOADS_PATH

MAX_BODY_BYTES: Final = 64 * 1024
_SMALL_BYTES: Final = 1 << 20
POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOO_LARGE: Final = f"the request is larger than {MAX_BODY_BYTES} bytes; send files to /api/uploads"


class SecurityMiddleware:
    """Checks every request and adds the security headers to every response."""

    def __init__(self, app: ASGIApp, *, names: Collection[str], only_tls: bool = False) -> None:
        """Create the middleware.

        Args:
            app: The wrapped application.
            names: The host names of this server, besides its addresses.
            only_tls: Send Strict-Transport-Security.
        """
        self._app, self._names = app, frozenset(name.lower() for name in names)
        self._headers = {**_HEADERS, **({"Strict-Transport-Security": "max-age=31536000"} if only_tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on and add the security headers to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(headers, receive, limit=None if scope["path"].startswith(UPLOADS_PATH) else MAX_BODY_BYTES)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    own.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    own.setdefault("Cache-Control", "no-store")
                if body.has_more():
                    # Otherwise the server would read and discard the rest, which may never end.
                    own["Connection"] = "close"
            await send(message)

        problem = self._check(scope, headers)
        if problem is not None:
            await error_response(*problem)(scope, body.receive, send_with_headers)
        else:
            await self._app(scope, body.receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                421,
                "host",
                (
                    f"this server is not known as {host[:100]!r}; open it by its IP address, or add the name "
                    "to Host names in the settings"
                ),
            )
        origin = headers.get("origin")
        # Other web sites must not change anything here, not even with a form that needs no login.
        if origin is not None and scope["method"] not in _SAFE and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "origin", "requests from other web sites are not allowed"
        length = headers.get("content-length", "0")
        if not scope["path"].startswith(UPLOADS_PATH) and (not length.isdigit() or int(length) > MAX_BODY_BYTES):
            return 413, "too_large", _TOO_LARGE
        return None

    def _is_own(self, host: str) -> bool:
        """Return True if a Host header names this server, which a DNS rebinding attack does not."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return False
        if not name or parts.username is not None or parts.path:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


class _Body:
    """The body of a request, counted while it is received."""

    def __init__(self, headers: Headers, receive: Receive, *, limit: int | None) -> None:
        self._receive, self._limit = receive, limit
        length = headers.get("content-length", "0")
        self._length = None if "transfer-encoding" in headers or not length.isdigit() else int(length)
        self._got, self._ended = 0, False

    async def receive(self) -> Message:
        """Receive a chunk; reject a body without a declared length that exceeds the limit."""
        message = await self._receive()
        self._got += len(message.get("body", b""))
        self._ended = self._ended or not message.get("more_body", False)
        if self._limit is not None and self._got > self._limit:
            raise HTTPException(413, _TOO_LARGE)
        return message

    def has_more(self) -> bool:
        """Return True if more than a small part of the body is still to come."""
        return not self._ended and (self._length is None or self._length - self._got > _SMALL_BYTES)


_COOKIE: Final = "relume_session"
CSRF_HEADER: Final = "x-csrf-token"


def client_address(request: Request) -> str:
    """Return the IP address of the client; headers such as X-Forwarded-For can be forged and are ignored."""
    return request.client.host if request.client else ""


def cookie_name(services: Services) -> str:
    """Return the name of the session cookie.

    With TLS it has the prefix `__Host-` (RFC 6265bis, 4.1.3.2): otherwise another service on the same host name could
    set a second cookie and log users out.
    """
    return f"__Host-{_COOKIE}" if services.settings.tls else _COOKIE


def authenticate(request: Request, services: Services) -> Principal | None:
    """Return the user of a request, by its API token or else its session cookie; None without a valid one."""
    address = client_address(request)
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, secret = header.partition(" ")
        return services.tokens.find(secret.strip(), address) if kind.lower() == "bearer" else None
    secret = request.cookies.get(cookie_name(services), "")
    return services.sessions.find(secret, address) if secret else None


@dataclass(frozen=True)
class RequireRole:
    """A dependency that requires a role and returns the user.

    `in_person` rejects API tokens: a leaked token must not be able to create others or change the password. Changes by
    administrators always require a session, since users, settings, folders and webhooks allow everything else.
    `before_change` admits users who must change their password first, for the change itself and for logging out.
    """

    role: Role
    in_person: bool = False
    before_change: bool = False

    def __call__(self, request: Request) -> Principal:
        """Reject a request without a valid login, CSRF token or sufficient role."""
        services = get_services(request)
        caller = authenticate(request, services)
        if caller is None:
            raise _not_logged_in(request)
        services.connections.mark_known(caller.address)
        changes = request.method not in _SAFE
        if caller.session and changes and not equal_secrets(request.headers.get(CSRF_HEADER, ""), caller.csrf):
            raise ApiError(403, "csrf", "this page is out of date; reload it and try again")
        if caller.must_change and not self.before_change:
            raise ApiError(403, "password_change_needed", "change your password first; it was chosen by someone else")
        if not caller.role.includes(self.role):
            raise ApiError(
                403, "role", f"this requires the role {self.role}, yours is {caller.role}; ask an administrator"
            )
        in_person = self.in_person or (changes and self.role is Role.ADMINISTRATOR)
        if in_person and caller.session is None:
            raise ApiError(
                403, "in_person", "this is not possible with an API token; log in with user name and password"
            )
        return caller


def _not_logged_in(request: Request) -> ApiError:
    """Return the error for a missing or expired login."""
    services = get_services(request)
    sessions, secret = services.sessions, request.cookies.get(cookie_name(services), "")
    if secret and sessions.has_expired(secret):
        hours = f"{sessions.idle_hours:g} hour{'' if sessions.idle_hours == 1 else 's'}"
        return ApiError(401, "session_expired", f"you were logged out after {hours} without activity; log in again")
    return ApiError(401, "login_needed", "you are logged out; log in to continue")


@dataclass(frozen=True)
class Public:
    """A dependency that marks a route as public."""

    def __call__(self) -> None:
        """Accept every request."""


async def _services(request: Request) -> Services:
    # Async, since FastAPI runs every other dependency in a thread.
    return get_services(request)


ServicesDep = Annotated[Services, Depends(_services)]
Viewer = Annotated[Principal, Depends(RequireRole(Role.VIEWER))]
Operator = Annotated[Principal, Depends(RequireRole(Role.OPERATOR))]
Administrator = Annotated[Principal, Depends(RequireRole(Role.ADMINISTRATOR))]
BrowserUser = Annotated[Principal, Depends(RequireRole(Role.VIEWER, in_person=True))]
PasswordChanger = Annotated[Principal, Depends(RequireRole(Role.VIEWER, in_person=True, before_change=True))]
AnyUser = Annotated[Principal, Depends(RequireRole(Role.VIEWER, before_change=True))]
