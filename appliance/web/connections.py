"""Connections to the page: how many an address may hold, and how long one may take or keep still.

Without these limits a single machine of the network keeps everybody else out with connections on which it says nothing.
`LimitedSocket` counts connections from the moment they are accepted, before TLS; `TimedProtocol` closes those that are
too slow.
"""

import asyncio
import resource
import socket
import struct
import threading
import time
from collections import Counter, OrderedDict
from contextlib import suppress
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from appliance.web.upload_store import UPLOADS_PATH

HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 15
MAX_CONNECTIONS: Final = 2000
_RESERVED: Final = 200
_MAX_PER_UNKNOWN: Final = 100
_MAX_PER_KNOWN: Final = 500
_KNOWN_FOR_S: Final = 86_400.0
_MAX_KNOWN: Final = 10_000
_OTHER_FILES: Final = 200


class ConnectionLimiter:
    """Which addresses hold how many connections, and which of them somebody was logged in from."""

    def __init__(
        self,
        *,
        maximum: int = MAX_CONNECTIONS,
        reserved: int = _RESERVED,
        per_unknown: int = _MAX_PER_UNKNOWN,
        per_known: int = _MAX_PER_KNOWN,
    ) -> None:
        """Make the counts.

        Args:
            maximum: Connections in all.
            reserved: How many of them are for addresses that somebody was logged in from.
            per_unknown: The most for an address that nobody was logged in from.
            per_known: The most for one that somebody was.
        """
        self._maximum, self._reserved = maximum, reserved
        self._per_unknown, self._per_known = per_unknown, per_known
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._known: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def mark_known(self, address: str) -> None:
        """Remember that somebody is logged in from an address."""
        with self._lock:
            self._known[address] = time.monotonic()
            self._known.move_to_end(address)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)

    def acquire(self, address: str) -> bool:
        """Count a connection; tell whether there is room for it."""
        with self._lock:
            seen = self._known.get(address)
            is_known = seen is not None and time.monotonic() - seen < _KNOWN_FOR_S
            most = self._maximum - (0 if is_known else self._reserved)
            if self._total >= most or self._counts[address] >= (self._per_known if is_known else self._per_unknown):
                if not self._counts[address]:
                    del self._counts[address]
                return False
            self._counts[address] += 1
            self._total += 1
            return True

    def release(self, address: str) -> None:
        """Take back what `enter` counted."""
        with self._lock:
            self._total -= 1
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]


class LimitedSocket(socket.socket):
    """A listening socket that closes connections over the limits of `limiter` as soon as they come."""

    limiter: ConnectionLimiter

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: There is no room for it; it was closed.
        """
        connection, address = super().accept()
        name = str(address[0])
        if not self.limiter.acquire(name):
            connection.close()
            raise ConnectionAbortedError
        counted = _CountedSocket(connection.family, connection.type, connection.proto, connection.detach())
        counted.limiter, counted.name = self.limiter, name
        return counted, address


class _CountedSocket(socket.socket):
    """An accepted connection, which leaves the counts when it is closed."""

    limiter: ConnectionLimiter | None = None
    name = ""

    def close(self) -> None:
        """Close the connection."""
        limiter, self.limiter = self.limiter, None
        super().close()
        if limiter is not None:
            limiter.release(self.name)


def limit_connections(listening: socket.socket, limiter: ConnectionLimiter) -> LimitedSocket:
    """Make a listening socket count its connections; the given one is closed by it."""
    # asyncio sends small answers at once (TCP_NODELAY) only on sockets that name the protocol; with 0 here every answer
    # on a connection that is used again waits 40 ms for an acknowledgement.
    limited = LimitedSocket(listening.family, listening.type, socket.IPPROTO_TCP, listening.detach())
    limited.limiter = limiter
    return limited


def open_connection_limiter() -> ConnectionLimiter:
    """Make the counts, for as many connections as this process may have files; that limit is raised as far as it goes.

    The places for those who are logged in are a tenth.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else max(min(MAX_CONNECTIONS, hard - _OTHER_FILES), 50)
    return ConnectionLimiter(maximum=most, reserved=most // 10)


class ShortHandshakeLoop(asyncio.SelectorEventLoop):
    """An event loop that gives a TLS handshake ten seconds; uvicorn would give it asyncio's sixty."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Listen."""
        if options.get("ssl"):
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
            options.setdefault("ssl_shutdown_timeout", HANDSHAKE_S)
        return await super().create_server(*args, **options)


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time for the head and the body of a request, and for taking an answer.

    uvicorn itself limits only the time between two requests. Uploads have their own limit (`UploadWriter`): they
    may take as long as bytes arrive. `write_s` is how long a client may read nothing of a response; a paused player
    requests the rest again later.
    """

    head_s = 10.0
    body_s = 10.0
    write_s = 120.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waits_for = ""
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait("", 0)
        self._stop_write_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        """Wait for the other end to take what was written."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_s, self._give_up)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._stop_write_timer()

    def _look(self) -> None:
        """Find out what the other end owes, and limit the time for it; more bytes of the same do not extend it."""
        if self.transport.is_closing():
            self._wait("", 0)
        elif self.conn.their_state is h11.IDLE:
            # Between two requests uvicorn's own timer runs, until the first byte of the next.
            self._wait("" if self.timeout_keep_alive_task is not None else "head", self.head_s)
        elif self.conn.their_state is h11.SEND_BODY and not self._is_upload():
            self._wait(f"body {id(self.cycle)}", self.body_s)
        else:
            self._wait("", 0)

    def _is_upload(self) -> bool:
        return not self.cycle.response_complete and str(self.scope["path"]).startswith(UPLOADS_PATH)

    def _wait(self, what: str, limit_s: float) -> None:
        if what == self._waits_for:
            return
        self._waits_for = what
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if what:
            self._timer = self.loop.call_later(limit_s, self.transport.abort)

    def _give_up(self) -> None:
        """End a connection whose other end takes nothing, and drop what the kernel still holds for it."""
        connection = self.transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
