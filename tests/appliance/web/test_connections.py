"""Silent and slow connections: they are closed, and block nobody else."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn

from appliance.settings_check import listen
from appliance.web import server as serving
from appliance.web.connections import ConnectionLimiter, ShortHandshakeLoop, TimedProtocol, limit_connections
from appliance.web.tls import provide_certificate

WAIT_S = 60


class Quick(TimedProtocol):
    """The protocol with limits short enough for a test."""

    head_s = 0.5
    body_s = 0.5
    write_s = 0.5


class QuickLoop(ShortHandshakeLoop):
    async def create_server(self, *args, **options):
        if options.get("ssl"):
            options["ssl_handshake_timeout"] = 0.5
        return await super().create_server(*args, **options)


@pytest.fixture
def limiter() -> ConnectionLimiter:
    return ConnectionLimiter(maximum=20, reserved=5, per_unknown=8, per_known=12)


@pytest.fixture
def serve(app, settings, limiter) -> Iterator[Callable[..., int]]:
    """Serve the app with short limits, and give its port."""
    with ExitStack() as stack:

        @contextmanager
        def serving(*, tls: bool, protocol: type) -> Iterator[int]:
            listening = limit_connections(listen("127.0.0.1", 0), limiter)
            given = provide_certificate(settings) if tls else None
            config = uvicorn.Config(
                app,
                http=protocol,
                loop="none",
                ws="none",
                log_config=None,
                timeout_keep_alive=1,
                timeout_graceful_shutdown=2,
                ssl_certfile=None if given is None else str(given.certificate),
                ssl_keyfile=None if given is None else str(given.key),
            )
            server = uvicorn.Server(config)
            run = {"target": lambda: asyncio.Runner(loop_factory=QuickLoop).run(server.serve([listening]))}
            thread = threading.Thread(**run)
            thread.start()
            wait_for(lambda: server.started)
            try:
                yield listening.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join(WAIT_S)
                listening.close()

        yield lambda *, tls=False, protocol=Quick: stack.enter_context(serving(tls=tls, protocol=protocol))


def wait_for(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect(port: int, said: bytes = b"", *, source: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S, source_address=(source, 0))
    connection.sendall(said)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection, whatever it sends before."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def ask(port: int, *, source: str = "127.0.0.1") -> bytes:
    request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with connect(port, request, source=source) as connection, contextlib.suppress(ConnectionError):
        return connection.recv(100)
    return b""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hea",
        b"POST /api/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
        b"POST /api/login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n",
    ],
    ids=["nothing", "begun", "half a head", "idle", "half a second head", "half a body", "no chunk", "unread body"],
)
def test_a_silent_connection_is_closed(serve, said):
    with connect(serve(), said) as connection:
        assert is_closed(connection)


def test_bytes_that_drip_do_not_keep_a_request_alive(serve):
    with connect(serve(), b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ") as connection:

        def is_refused() -> bool:
            try:
                connection.sendall(b"a")
            except OSError:
                return True
            time.sleep(0.1)
            return False

        wait_for(is_refused)


def test_a_handshake_that_stops_half_way_is_closed(serve):
    port = serve(tls=True)
    hello = bytes.fromhex("160301010001")  # the start of a TLS record
    with connect(port, hello) as half, connect(port) as silent:
        assert is_closed(half)
        assert is_closed(silent)


def test_an_answer_that_nobody_reads_is_dropped(serve, app):
    @app.get("/endless", include_in_schema=False)
    async def endless():
        from starlette.responses import StreamingResponse

        async def give():
            while True:
                yield bytes(1 << 20)
                await asyncio.sleep(0)

        return StreamingResponse(give())

    # The page's routes end with a mount, which would match the address.
    app.router.routes.insert(0, app.router.routes.pop())
    request = b"GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(serve(), request) as connection:
        connection.recv(1)
        wait_for(lambda: struct.unpack("B", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0] != 1)


def test_one_address_cannot_keep_others_out_and_has_its_places_again_afterwards(serve):
    port = serve()
    with ExitStack() as stack:
        held = [stack.enter_context(connect(port, b"GET")) for _ in range(30)]
        assert ask(port, source="127.0.0.2").startswith(b"HTTP/1.1 200")
        for connection in held:
            assert is_closed(connection)
    wait_for(lambda: ask(port).startswith(b"HTTP/1.1 200"))


def test_many_addresses_leave_places_for_those_who_are_logged_in(limiter):
    limiter.mark_known("10.0.0.1")

    strangers = [limiter.acquire(f"10.0.1.{number // 5}") for number in range(50)]
    known = [limiter.acquire("10.0.0.1") for _ in range(20)]

    assert strangers.count(True) == 15
    assert known.count(True) == 5
    limiter.release("10.0.0.1")
    assert not limiter.acquire("10.0.2.1")
    assert limiter.acquire("10.0.0.1")


def test_an_address_has_its_own_limit_and_more_of_them_once_someone_is_logged_in(limiter):
    assert [limiter.acquire("10.0.0.1") for _ in range(10)].count(True) == 8
    limiter.mark_known("10.0.0.1")
    assert [limiter.acquire("10.0.0.1") for _ in range(10)].count(True) == 4


def test_who_is_logged_in_is_noted_and_a_wrong_secret_is_not(viewer, nobody, services):
    noted = []
    services.connections.mark_known = noted.append

    nobody.get("/api/jobs", headers={"Cookie": "relume_session=wrong"})
    assert noted == []
    viewer.get("/api/jobs")

    assert noted == ["testclient"]


@pytest.mark.parametrize("tls", [False, True])
def test_small_answers_are_sent_at_once(serve, tls):
    """Without TCP_NODELAY each answer on a connection that is used again waits 40 ms for an acknowledgement."""
    options = []

    class Watching(Quick):
        def connection_made(self, transport):
            made = transport.get_extra_info("socket")
            options.append(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    with connect(serve(tls=tls, protocol=Watching)) as connection:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(connection) if tls else connection:
            wait_for(lambda: options != [])

    assert options == [1]


def test_a_certificate_that_is_renewed_is_taken_without_a_restart(settings, monkeypatch):
    monkeypatch.setattr(serving, "CERTIFICATE_EVERY_S", 0.05)
    first = provide_certificate(settings)
    config = uvicorn.Config("unused", ssl_certfile=str(first.certificate), ssl_keyfile=str(first.key))
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config.ssl.load_cert_chain(first.certificate, first.key)

    def served() -> bytes:
        """Shake hands over two memory buffers, and give the certificate that the server shows."""
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = context.wrap_bio(into, out)
        server = config.ssl.wrap_bio(out, into, server_side=True)
        for side in (client, server) * 3:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return client.getpeercert(binary_form=True)

    async def run() -> tuple[bytes, bytes]:
        async with serving._certificate_renewal(settings.model_copy(update={"tls": True}), config):
            await asyncio.sleep(0.2)
            before = served()
            first.certificate.unlink()  # treated like one that is about to expire: it is renewed
            for _ in range(600):
                if served() != before:
                    break
                await asyncio.sleep(0.05)
            return before, served()

    before, after = asyncio.run(run())

    assert after == ssl.PEM_cert_to_DER_cert(first.certificate.read_text())
    assert after != before
