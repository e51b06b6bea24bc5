"""The web application: its routes, what stands before them, and what runs beside them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from anyio import to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from appliance.accounts.book import open_accounts
from appliance.jobs.errors import JobError
from appliance.jobs.queue import JobQueue
from appliance.settings import FILE_NAME, LAST_GOOD_NAME, Settings, load_settings
from appliance.store.database import Database
from appliance.watch.store import FolderStore
from appliance.web import static
from appliance.web.connections import ConnectionLimiter
from appliance.web.errors import RESPONSES, add_error_handlers
from appliance.web.estimate_cache import EstimateCache
from appliance.web.events import Broadcaster
from appliance.web.mail import Mailer
from appliance.web.own_presets import OwnPresets
from appliance.web.routes import account, estimates, folders, jobs, media, presets, uploads, users, webhooks
from appliance.web.routes import settings as settings_routes
from appliance.web.routes import system as system_routes
from appliance.web.security import SecurityMiddleware, Viewer, cookie_name
from appliance.web.services import Services
from appliance.web.system import SystemStatus, Workers
from appliance.web.tls import own_names
from appliance.web.upload_store import UploadStore
from appliance.web.upload_writer import UploadWriter
from appliance.web.webhooks import Webhooks
from runtime.version import relume_version

_ROUTES: Final = (
    account,
    presets,
    uploads,
    jobs,
    estimates,
    media,
    system_routes,
    folders,
    users,
    settings_routes,
    webhooks,
    static,
)
_TIDY_EVERY_S: Final = 3600.0
_PREVIEWS_KEPT_S: Final = 24 * 3600.0


def open_services(
    database: Database,
    settings: Settings,
    *,
    workers: Workers = tuple,
    given: frozenset[str] = frozenset(),
    problem: str = "",
    connections: ConnectionLimiter | None = None,
) -> Services:
    """Make what the routes work with.

    Args:
        database: The database of the data directory.
        settings: The settings of the box.
        workers: Tells of the worker processes.
        given: The settings that the command line fixes.
        problem: Why these are not the settings that were saved.
        connections: The counts of connections that the listening socket has; None makes new ones.
    """
    settings.uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
    accounts, queue = open_accounts(database, settings), JobQueue(database)
    system = SystemStatus(settings, workers, fallback=bool(problem))
    kept = UploadStore(database, settings)
    return Services(
        settings=settings,
        settings_at_start=load_settings(settings.data, file_name=LAST_GOOD_NAME if problem else FILE_NAME).model_dump(
            mode="json"
        ),
        settings_given=given,
        settings_problem=problem,
        database=database,
        accounts=accounts,
        queue=queue,
        folders=FolderStore(database),
        uploads=kept,
        upload_writer=UploadWriter(kept),
        webhooks=Webhooks(database, queue, settings),
        mailer=Mailer(accounts.users, queue, settings),
        broadcaster=Broadcaster(queue, accounts, system.brief, own_only=settings.own_jobs_only),
        system=system,
        connections=connections or ConnectionLimiter(),
        own_presets=OwnPresets(database),
        estimates=EstimateCache(database),
        estimate_lock=asyncio.Lock(),
    )


def create_app(services: Services) -> FastAPI:
    """Make the web application over the services of a box."""
    app = FastAPI(
        title="Relume",
        summary="The API of a Relume box",
        description="Log in with a cookie (`POST /api/login`) or send `Authorization: Bearer <token>`. With a cookie "
        "every change carries `X-CSRF-Token` from `GET /api/session`. Every refusal is `{error: {code, message}}`.",
        version=relume_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=RESPONSES,
        lifespan=_life,
        redirect_slashes=False,
    )
    app.state.services = services
    app.add_middleware(
        SecurityMiddleware,
        names=own_names() | set(services.settings.host_names),
        # With a certificate that Relume made itself a browser could never go on past its warning again.
        only_tls=services.settings.tls and services.settings.tls_certificate is not None,
    )
    add_error_handlers(app)
    for module in _ROUTES:
        app.include_router(module.router)
    app.mount("/page", static.PageFiles(), name="page")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(caller: Viewer) -> dict[str, Any]:
        """Return the description of the API."""
        del caller
        return app.openapi()

    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """Run what goes on beside the requests."""
    services: Services = app.state.services
    tasks = [
        asyncio.create_task(services.broadcaster.run()),
        asyncio.create_task(_keep_tidy(services)),
    ]
    services.webhooks.start()
    services.mailer.start()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await to_thread.run_sync(services.webhooks.close)
        await to_thread.run_sync(services.mailer.close)
        await to_thread.run_sync(services.uploads.close)


async def _keep_tidy(services: Services) -> None:
    await to_thread.run_sync(services.uploads.resume)
    while True:
        await to_thread.run_sync(remove_old_previews, services)
        await to_thread.run_sync(services.uploads.tidy, services.upload_writer.busy)
        await asyncio.sleep(_TIDY_EVERY_S)


def remove_old_previews(services: Services) -> None:
    """Remove the previews that ended more than a day ago: they only helped to choose."""
    for job_id in services.queue.previews_ended_before(time.time() - _PREVIEWS_KEPT_S):
        with suppress(JobError):
            services.queue.remove(job_id)


def _describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            summary=app.summary,
            description=app.description,
            version=app.version,
            routes=app.routes,
        )
        schema["components"]["securitySchemes"] = {
            "session": {"type": "apiKey", "in": "cookie", "name": cookie_name(app.state.services)},
            "token": {"type": "http", "scheme": "bearer"},
        }
        schema["security"] = [{"session": []}, {"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
