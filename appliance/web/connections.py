"""Limits on connections: how many a client may open, and how slow they may be.

Without these limits, a single machine could block everyone else with idle connections. `LimitedSocket` counts
connections as soon as they are accepted, before TLS; `TimedProtocol` closes those that are too slow.
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
    """Counts the connections of each address; addresses from which a user was logged in get more."""

    def __init__(
        self,
        *,
        maximum: int = MAX_CONNECTIONS,
        reserved: int = _RESERVED,
        per_unknown: int = _MAX_PER_UNKNOWN,
        per_known: int = _MAX_PER_KNOWN,
    ) -> None:
        """Create the limiter.

        Args:
            maximum: The total number of connections.
            reserved: How many of them are reserved for known addresses, from which a user was logged in.
            per_unknown: The maximum for an unknown address.
            per_known: The maximum for a known address.
        """
        self._maximum, self._reserved = maximum, reserved
        self._per_unknown, self._per_known = per_unknown, per_known
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._known: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def mark_known(self, address: str) -> None:
        """Mark an address from which a user is logged in."""
        with self._lock:
            self._known[address] = time.monotonic()
            self._known.move_to_end(address)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)

    def acquire(self, address: str) -> bool:
        """Count a new connection; return False if it exceeds the limits."""
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
        """Count a closed connection."""
        with self._lock:
            self._total -= 1
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]


class LimitedSocket(socket.socket):
    """A listening socket that closes connections over the limits of `limiter` immediately."""

    limiter: ConnectionLimiter

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: It exceeds the limits and was closed.
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
    """An accepted connection, which is released when it is closed."""

    limiter: ConnectionLimiter | None = None
    name = ""

    def close(self) -> None:
        """Close the connection."""
        limiter, self.limiter = self.limiter, None
        super().close()
        if limiter is not None:
            limiter.release(self.name)


def limit_connections(listening: socket.socket, limiter: ConnectionLimiter) -> LimitedSocket:
    """Return a socket that limits the connections of a listening socket and takes over its descriptor."""
    # asyncio sets TCP_NODELAY only on sockets that name the protocol; with 0 here, every response on a reused
    # connection would wait 40 ms for an acknowledgement.
    limited = LimitedSocket(listening.family, listening.type, socket.IPPROTO_TCP, listening.detach())
    limited.limiter = limiter
    return limited


def open_connection_limiter() -> ConnectionLimiter:
    """Create a limiter for as many connections as the process may have open files; raise that limit to its maximum.

    A tenth is reserved for known addresses.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else max(min(MAX_CONNECTIONS, hard - _OTHER_FILES), 50)
    return ConnectionLimiter(maximum=most, reserved=most // 10)


class ShortHandshakeLoop(asyncio.SelectorEventLoop):
    """An event loop that allows ten seconds for a TLS handshake, where uvicorn keeps asyncio's sixty."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Listen."""
        if options.get("ssl"):
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
            options.setdefault("ssl_shutdown_timeout", HANDSHAKE_S)
        return await super().create_server(*args, **options)


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with time limits on receiving a request's head and body, and on sending a response.

    uvicorn itself limits only the time between two requests. Uploads have their own limit (`UploadWriter`): they
    may take as long as bytes arrive. `write_s` is how long a client may read nothing of a response; a paused player
    requests the rest again later.
    """

    head_s = 10.0
    body_s = 10.0
    write_s = 120.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting_for = ""
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        super().data_received(data)
        self._update_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._wait("", 0)
        self._stop_write_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        """Limit the time until the client reads."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_s, self._abort)

    def resume_writing(self) -> None:
        """Continue writing."""
        super().resume_writing()
        self._stop_write_timer()

    def _update_timer(self) -> None:
        """Limit the time for what the client must send next; partial data does not extend it."""
        if self.transport.is_closing():
            self._wait("", 0)
        elif self.conn.their_state is h11.IDLE:
            # Between two requests uvicorn's own timer applies, until the first byte of the next.
            self._wait("" if self.timeout_keep_alive_task is not None else "head", self.head_s)
        elif self.conn.their_state is h11.SEND_BODY and not self._is_upload():
            self._wait(f"body {id(self.cycle)}", self.body_s)
        else:
            self._wait("", 0)

    def _is_upload(self) -> bool:
        return not self.cycle.response_complete and str(self.scope["path"]).startswith(UPLOADS_PATH)

    def _wait(self, what: str, limit_s: float) -> None:
        if what == self._waiting_for:
            return
        self._waiting_for = what
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if what:
            self._timer = self.loop.call_later(limit_s, self.transport.abort)

    def _abort(self) -> None:
        """Abort a connection whose client reads nothing, and discard what the kernel has buffered."""
        connection = self.transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
