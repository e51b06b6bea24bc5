"""`relume serve`: the web server, and beside it the workers, watch folders, engine builds and the mDNS announcement."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from appliance.engines.background import EngineKeeper
from appliance.engines.measuring import SpeedKeeper
from appliance.errors import SettingsError
from appliance.jobs.queue import JobQueue
from appliance.jobs.supervisor import Supervisor
from appliance.jobs.worker_process import Limits
from appliance.maintenance.logs import log_to_file
from appliance.settings import LOOPBACK, Settings, find_data_directory
from appliance.settings_check import listen
from appliance.settings_file import FILE_NAME, LAST_GOOD_NAME, load_settings, save_last_good
from appliance.store.data_dir import open_data_directory
from appliance.store.database import Database
from appliance.watch.store import FolderStore
from appliance.watch.watcher import Watcher
from appliance.web.app import create_app
from appliance.web.connections import (
    IDLE_S,
    ConnectionLimiter,
    TimedProtocol,
    limit_connections,
    open_connection_limiter,
)
from appliance.web.mdns import announce
from appliance.web.services import Services, open_services
from appliance.web.tls import Certificate, own_addresses, provide_certificate, serve_redirects
from runtime.engine.store.store import EngineStore

logger = logging.getLogger(__name__)

_GRACE_S: Final = 5
CERTIFICATE_EVERY_S: Final = 3600.0
# Every SQLite step and file access releases the interpreter's lock. With Python's default of 5 ms, a request that makes
# thirty of them waits for the event loop each time, which large uploads keep busy.
_SWITCH_S: Final = 0.0005


def serve(data: Path | None = None, **given: object) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    If the saved settings prevent a start, the server starts with the last ones that worked, so that they can be
    corrected on the settings page.

    Args:
        data: The data directory; None for `RELUME_DATA` or the default.
        given: Settings from the command line; None means not given.

    Raises:
        StoreError: Another server uses the data directory, or it cannot be used.
        SettingsError: The port is in use, or the certificate cannot be used.
    """
    sys.setswitchinterval(_SWITCH_S)
    # uvicorn handles the signals while it runs, and raises the one that stopped it again afterwards.
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, _stop_on_signal)
    data = find_data_directory(data)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        stack.enter_context(open_data_directory(data))
        start = _prepare(data, given)
        settings, certificate = start.settings, start.certificate
        stack.enter_context(start.listening)
        stack.enter_context(log_to_file(settings.data, level=logging.getLevelNamesMapping()[settings.log_level]))
        database = stack.enter_context(Database(settings.database, check=True))
        if start.problem:
            logger.error("%s", start.problem)
        limiter = open_connection_limiter()
        listening = stack.enter_context(limit_connections(start.listening, limiter))
        supervisor = stack.enter_context(start_background_services(database, settings))
        services = open_services(
            database,
            settings,
            workers=supervisor.status,
            given=frozenset(name for name, value in given.items() if value is not None),
            problem=start.problem,
            connections=limiter,
        )
        server = _make_server(create_app(services), services, certificate)
        save_last_good(data, start.file_name)
        _print_addresses(services, certificate)
        logger.info("listening on port %d", settings.port)
        try:
            server.run(sockets=[listening])
        finally:
            logger.info("server stopping; running jobs will resume after the next start")


@contextmanager
def start_background_services(database: Database, settings: Settings) -> Iterator[Supervisor]:
    """Start everything that runs beside the web server; yield the supervisor of the workers."""
    with ExitStack() as stack:
        devices = None if settings.device == "auto" else settings.device.split(",")
        limits = Limits(
            memory_bytes=settings.worker_memory_bytes,
            threads=settings.threads or None,
            reserve_bytes=settings.disk_reserve_bytes,
            backend=settings.backend,
            precision=settings.precision,
        )
        supervisor = stack.enter_context(Supervisor(settings.data, devices=devices, limits=limits))
        supervisor.start()

        def is_idle() -> bool:
            return all(worker.job is None for worker in supervisor.status())

        speeds = stack.enter_context(SpeedKeeper(settings.engines, is_idle, own=settings.zoo))
        speeds.start()
        keeper = EngineKeeper(
            EngineStore(settings.engines), is_idle, budget_bytes=settings.engines_bytes, on_ready=speeds.remeasure
        )
        stack.enter_context(keeper).start()
        stack.enter_context(Watcher(FolderStore(database), JobQueue(database)))
        if settings.announce and settings.host not in LOOPBACK:
            stack.enter_context(announce(settings.port, tls=settings.tls))
        yield supervisor


@dataclass(frozen=True, slots=True)
class _Start:
    """The settings and the network of a start; `problem` is why these are not the saved settings."""

    settings: Settings
    file_name: str
    listening: socket.socket
    certificate: Certificate | None
    problem: str = ""


def _prepare(data: Path, given: Mapping[str, object]) -> _Start:
    """Open the socket and the certificate of the saved settings, or else of the last ones that worked."""
    try:
        return _open_network(data, FILE_NAME, given)
    except SettingsError as error:
        if not (data / LAST_GOOD_NAME).exists():
            raise
        try:
            start = _open_network(data, LAST_GOOD_NAME, given)
        except SettingsError:
            # The options of the command line are wrong too: report the first error.
            raise error from None
        return replace(start, problem=f"the saved settings cannot be used; running with the previous ones: {error}")


def _open_network(data: Path, file_name: str, given: Mapping[str, object]) -> _Start:
    settings = load_settings(data, file_name=file_name, **given)
    listening = listen(settings.host, settings.port)
    try:
        certificate = provide_certificate(settings) if settings.tls else None
    except SettingsError:
        listening.close()
        raise
    return _Start(settings, file_name, listening, certificate)


def _make_server(app: FastAPI, services: Services, certificate: Certificate | None) -> uvicorn.Server:
    settings = services.settings
    config = uvicorn.Config(
        app,
        # h11: strict parsing, and available on every machine.
        http=TimedProtocol,
        loop="appliance.web.connections:ShortHandshakeLoop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
        backlog=512,
        ssl_certfile=None if certificate is None else str(certificate.certificate),
        ssl_keyfile=None if certificate is None else str(certificate.key),
    )
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(scope: FastAPI) -> AsyncIterator[None]:
        async with inner(scope), _redirects(settings, services.connections), _certificate_renewal(settings, config):
            yield

    app.router.lifespan_context = lifespan

    class Server(uvicorn.Server):
        """Closes live updates before the shutdown, which would otherwise wait for them."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            services.broadcaster.stop()
            super().handle_exit(sig, frame)

    return Server(config)


@asynccontextmanager
async def _certificate_renewal(settings: Settings, config: uvicorn.Config) -> AsyncIterator[None]:
    """Renew the server's own certificate in time, and reload a replaced one without a restart."""

    async def renew() -> None:
        loaded = ""
        while True:
            try:
                found = await asyncio.to_thread(provide_certificate, settings)
                if loaded and found.fingerprint != loaded:
                    assert config.ssl is not None
                    config.ssl.load_cert_chain(found.certificate, found.key)
                    logger.info("certificate renewed: %s", found.fingerprint[:23])
                loaded = found.fingerprint
            except (SettingsError, OSError, ValueError) as error:
                logger.warning("cannot renew the certificate, keeping the current one: %s", error)
            await asyncio.sleep(CERTIFICATE_EVERY_S)

    task = asyncio.create_task(renew()) if settings.tls else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


@asynccontextmanager
async def _redirects(settings: Settings, limiter: ConnectionLimiter) -> AsyncIterator[None]:
    """Redirect http:// to https:// while the block runs; a port that is in use does not prevent the start."""
    server: asyncio.Server | None = None
    if settings.tls and settings.plain_port:
        try:
            server = await serve_redirects(settings.host, settings.plain_port, settings.port, limiter)
        except SettingsError as error:
            logger.warning("no redirect from http to https: %s", error)
    try:
        yield
    finally:
        if server is not None:
            server.close()


def _print_addresses(services: Services, certificate: Certificate | None) -> None:
    settings = services.settings
    if services.settings_problem:
        print(f"Note: {services.settings_problem}")
    scheme = "http" if certificate is None else "https"
    alone = settings.host in LOOPBACK
    name = "localhost" if alone else ("relume.local" if settings.announce else socket.gethostname())
    address = f"{scheme}://{name}:{settings.port}/"
    print(f"Relume is running at {address}")
    if not alone:
        print(f"  If that name does not resolve: {scheme}://{_own_address()}:{settings.port}/")
    if certificate is not None and certificate.is_own:
        print(
            "  Your browser will warn once, because Relume created its own certificate. Continue if the\n"
            f"  certificate's SHA-256 fingerprint begins with {certificate.fingerprint[:23]}"
        )
    if certificate is None and not alone:
        print("  Warning: without TLS, passwords are sent unencrypted; use --no-tls only on a trusted network.")
    secret = services.login.new_setup_secret()
    if secret is not None:
        print(f"\nTo create the administrator account, open this link once:\n  {address}setup?token={secret}")
    sys.stdout.flush()


def _own_address() -> str:
    return next((address for address in own_addresses() if ":" not in address and address[:4] != "127."), "127.0.0.1")


def _stop_on_signal(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
