"""What runs beside the web server: the workers, the watch folders, the engines' builds, and the name on the network."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from appliance.box.logs import log_to_file
from appliance.box.mdns import announce
from appliance.engines.background import EngineKeeper
from appliance.engines.measuring import SpeedKeeper
from appliance.errors import SettingsError
from appliance.jobs.queue import JobQueue
from appliance.jobs.supervisor import Supervisor
from appliance.jobs.worker_process import Limits
from appliance.settings import FILE_NAME, LAST_GOOD_NAME, LOOPBACK, Settings, find_data_directory, load_settings
from appliance.settings_file import listen, save_last_good
from appliance.store.data_dir import open_data_directory
from appliance.store.database import Database
from appliance.watch.store import FolderStore
from appliance.watch.watcher import Watcher
from appliance.web.tls import Certificate, provide_certificate
from runtime.engine.store.store import EngineStore

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from appliance.web.connections import ConnectionLimiter
    from appliance.web.services import Services


@dataclass(frozen=True, slots=True)
class Company:
    """What was started."""

    supervisor: Supervisor

    def workers(self) -> list[dict[str, Any]]:
        """Tell of the worker processes."""
        return [asdict(status) for status in self.supervisor.status()]


@contextmanager
def start_background_services(database: Database, settings: Settings) -> Iterator[Company]:
    """Start what runs beside the web server, and end it after the block, the latest first."""
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
            EngineStore(settings.engines), is_idle, budget_bytes=settings.engines_bytes, on_ready=speeds.look_again
        )
        stack.enter_context(keeper).start()
        stack.enter_context(Watcher(FolderStore(database), JobQueue(database)))
        if settings.announce and settings.host not in LOOPBACK:
            stack.enter_context(announce(settings.port, tls=settings.tls))
        yield Company(supervisor)


logger = logging.getLogger(__name__)

_GRACE_S: Final = 5
CERTIFICATE_EVERY_S: Final = 3600.0
# Every step of SQLite and every look at a file gives up the interpreter's lock; with Python's 5 ms a request that makes
# thirty of them waits for the event loop each time, which large uploads keep busy.
_SWITCH_S: Final = 0.0005


def serve(data: Path | None = None, **given: object) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Where the saved settings keep it from starting, it starts with the last ones that worked, so that a page is there
    on which they can be corrected.

    Args:
        data: The data directory; None takes `RELUME_DATA` or the default.
        given: Settings from the command line; None counts as not given.

    Raises:
        StoreError: The data directory is in use by another server, or cannot be used.
        SettingsError: The port is taken, or the certificate cannot be used.
    """
    sys.setswitchinterval(_SWITCH_S)
    # uvicorn takes the signals while it runs, and raises the one that ended it once more afterwards.
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, _end_by_signal)
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
        from appliance.web.app import create_app, open_services
        from appliance.web.connections import limit_connections, open_connection_limiter

        limiter = open_connection_limiter()
        listening = stack.enter_context(limit_connections(start.listening, limiter))

        company = stack.enter_context(start_background_services(database, settings))
        services = open_services(
            database,
            settings,
            workers=company.workers,
            given=frozenset(name for name, value in given.items() if value is not None),
            problem=start.problem,
            connections=limiter,
        )
        server = _make_server(create_app(services), services, certificate)
        save_last_good(data, start.file_name)
        _greet(services, certificate)
        logger.info("serving on port %d", settings.port)
        try:
            server.run(sockets=[listening])
        finally:
            logger.info("the server stops; jobs go on after the next start")


@dataclass(frozen=True, slots=True)
class _Start:
    """What the server starts with; `problem` says why these are not the settings that were saved."""

    settings: Settings
    file_name: str
    listening: socket.socket
    certificate: Certificate | None
    problem: str = ""


def _prepare(data: Path, given: Mapping[str, object]) -> _Start:
    """Open the address and the certificate: of the saved settings, or else of the last ones that worked."""
    try:
        return _open_network(data, FILE_NAME, given)
    except SettingsError as error:
        if not (data / LAST_GOOD_NAME).exists():
            raise
        try:
            start = _open_network(data, LAST_GOOD_NAME, given)
        except SettingsError:
            # What the command line says cannot be used either: the first error is the one to mend.
            raise error from None
        return replace(start, problem=f"the saved settings cannot be used, so the last ones that worked are: {error}")


def _open_network(data: Path, file_name: str, given: Mapping[str, object]) -> _Start:
    settings = load_settings(data, file_name=file_name, **given)
    listening = listen(settings.host, settings.port)
    try:
        certificate = provide_certificate(settings) if settings.tls else None
    except SettingsError:
        listening.close()
        raise
    return _Start(settings, file_name, listening, certificate)


def _make_server(app: "FastAPI", services: "Services", certificate: Certificate | None) -> "uvicorn.Server":
    import uvicorn

    from appliance.web.connections import IDLE_S, TimedProtocol

    settings = services.settings
    config = uvicorn.Config(
        app,
        # h11 reads strictly, and is there on every machine.
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
    async def life(scope: "FastAPI") -> AsyncIterator[None]:
        async with inner(scope), _redirects(settings, services.connections), _fresh_certificate(settings, config):
            yield

    app.router.lifespan_context = life

    class Server(uvicorn.Server):
        """A server that ends its live updates first, since they would never end by themselves."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            services.broadcaster.stop()
            super().handle_exit(sig, frame)

    return Server(config)


@asynccontextmanager
async def _fresh_certificate(settings: Settings, config: "uvicorn.Config") -> AsyncIterator[None]:
    """Take a certificate that was renewed without a restart, and renew the server's own in time."""

    async def renew() -> None:
        taken = ""
        while True:
            try:
                found = await asyncio.to_thread(provide_certificate, settings)
                if taken and found.fingerprint != taken:
                    assert config.ssl is not None
                    config.ssl.load_cert_chain(found.certificate, found.key)
                    logger.info("the certificate was renewed: %s", found.fingerprint[:23])
                taken = found.fingerprint
            except (SettingsError, OSError, ValueError) as error:
                logger.warning("the certificate cannot be renewed, the old one goes on: %s", error)
            await asyncio.sleep(CERTIFICATE_EVERY_S)

    task = asyncio.create_task(renew()) if settings.tls else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


@asynccontextmanager
async def _redirects(settings: Settings, limiter: "ConnectionLimiter") -> AsyncIterator[None]:
    """Listen for visitors without TLS while the block runs; a taken port is no reason not to serve."""
    from appliance.web.tls import serve_redirects

    server: asyncio.Server | None = None
    if settings.tls and settings.plain_port:
        try:
            server = await serve_redirects(settings.host, settings.plain_port, settings.port, limiter)
        except SettingsError as error:
            logger.warning("visitors without TLS are not sent on: %s", error)
    try:
        yield
    finally:
        if server is not None:
            server.close()


def _greet(services: "Services", certificate: Certificate | None) -> None:
    settings = services.settings
    if services.settings_problem:
        print(f"Note: {services.settings_problem}")
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
        print(f"\nTo create the administrator account, open this link once:\n  {address}setup?token={secret}")
    sys.stdout.flush()


def _address_of_this_box() -> str:
    from appliance.web.tls import own_addresses

    return next((address for address in own_addresses() if ":" not in address and address[:4] != "127."), "127.0.0.1")


def _end_by_signal(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
