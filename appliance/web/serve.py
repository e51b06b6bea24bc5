"""`relume serve`: one process tree over one data directory, from the lock on it to the last worker's end."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

from appliance.box.logs import log_to_file
from appliance.errors import SettingsError
from appliance.settings import LOOPBACK, Settings
from appliance.store.database import Database
from appliance.store.directory import open_data_directory
from appliance.web.certificate import Certificate, provide_certificate

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from appliance.web.services import Services

logger = logging.getLogger(__name__)

_GRACE_S: Final = 5
# Every step of SQLite and every look at a file gives up the interpreter's lock; with Python's 5 ms a request that makes
# thirty of them waits for the event loop each time, which large uploads keep busy.
_SWITCH_S: Final = 0.0005


def serve(settings: Settings) -> None:
    """Run the box until SIGTERM or Ctrl-C.

    Raises:
        StoreError: The data directory is in use by another server, or cannot be used.
        SettingsError: The port is taken, or the certificate cannot be used.
    """
    sys.setswitchinterval(_SWITCH_S)
    # uvicorn takes the signals while it runs, and raises the one that ended it once more afterwards.
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, _end_by_signal)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        stack.enter_context(open_data_directory(settings.data))
        stack.enter_context(log_to_file(settings.data, level=logging.getLevelNamesMapping()[settings.log_level]))
        database = stack.enter_context(Database(settings.database, check=True))
        listening = stack.enter_context(_listen(settings.host, settings.port))
        certificate = provide_certificate(settings) if settings.tls else None

        from appliance.web.app import make_app, open_services
        from appliance.web.company import start_company

        company = stack.enter_context(start_company(database, settings))
        services = open_services(database, settings, workers=company.workers)
        server = _make_server(make_app(services), services, certificate)
        _greet(services, certificate)
        logger.info("serving on port %d", settings.port)
        try:
            server.run(sockets=[listening])
        finally:
            logger.info("the server stops; jobs go on after the next start")


def _make_server(app: "FastAPI", services: "Services", certificate: Certificate | None) -> "uvicorn.Server":
    import uvicorn

    settings = services.settings
    config = uvicorn.Config(
        app,
        # h11 reads strictly, and is there on every machine.
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=2000,
        backlog=512,
        ssl_certfile=None if certificate is None else str(certificate.certificate),
        ssl_keyfile=None if certificate is None else str(certificate.key),
    )
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def life(scope: "FastAPI") -> AsyncIterator[None]:
        async with inner(scope), _redirects(settings):
            yield

    app.router.lifespan_context = life

    class Server(uvicorn.Server):
        """A server that ends its live updates first, since they would never end by themselves."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            services.broadcaster.stop()
            super().handle_exit(sig, frame)

    return Server(config)


@asynccontextmanager
async def _redirects(settings: Settings) -> AsyncIterator[None]:
    """Listen for visitors without TLS while the block runs; a taken port is no reason not to serve."""
    from appliance.web.redirect import serve_redirects

    server: asyncio.Server | None = None
    if settings.tls and settings.plain_port:
        try:
            server = await serve_redirects(settings.host, settings.plain_port, settings.port)
        except OSError as error:
            logger.warning("port %d for plain http is not available: %s", settings.plain_port, error.strerror)
    try:
        yield
    finally:
        if server is not None:
            server.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"port {port} on {host} cannot be listened on: {error.strerror}; end what uses it, or choose another with "
            "--port"
        ) from error
    return listening


def _greet(services: "Services", certificate: Certificate | None) -> None:
    settings = services.settings
    scheme = "http" if certificate is None else "https"
    alone = settings.host in LOOPBACK
    name = "localhost" if alone else ("relume.local" if settings.announce else socket.gethostname())
    address = f"{scheme}://{name}:{settings.port}/"
    print(f"Relume is at {address}")
    if not alone:
        print(f"  or, where that name is not known: {scheme}://{_address_of_this_box()}:{settings.port}/")
    if certificate is not None and certificate.is_own:
        print(
            "  The browser will say once that it does not know this box: Relume made the certificate itself.\n"
            "  Go on past the warning if the certificate's SHA-256 fingerprint begins with "
            f"{certificate.fingerprint[:23]}"
        )
    if certificate is None and not alone:
        print("  Without TLS, passwords cross the network readable; leave --no-tls out where others share it.")
    secret = services.accounts.entrance.new_setup_secret()
    if secret is not None:
        print(f"\nTo make the first account, open this link once:\n  {address}setup?token={secret}")
    sys.stdout.flush()


def _address_of_this_box() -> str:
    from appliance.web.certificate import own_addresses

    return next((address for address in own_addresses() if ":" not in address and address[:4] != "127."), "127.0.0.1")


def _end_by_signal(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
