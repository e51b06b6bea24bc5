"""The web application: routes, middleware, and the background tasks of the server's lifetime."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from anyio import to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from appliance.jobs.errors import JobError
from appliance.web import static
from appliance.web.errors import RESPONSES, add_error_handlers
from appliance.web.routes import account, estimates, folders, jobs, media, presets, uploads, users, webhooks
from appliance.web.routes import settings as settings_routes
from appliance.web.routes import system as system_routes
from appliance.web.security import SecurityMiddleware, Viewer, cookie_name
from appliance.web.services import Services
from appliance.web.tls import own_names
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
_CLEAN_UP_EVERY_S: Final = 3600.0
_PREVIEWS_KEPT_S: Final = 24 * 3600.0


def create_app(services: Services) -> FastAPI:
    """Create the web application on top of the services."""
    app = FastAPI(
        title="Relume",
        summary="The API of a Relume server",
        description="Log in with a cookie (`POST /api/login`) or send `Authorization: Bearer <token>`. With a cookie, "
        "every request that changes something needs the header `X-CSRF-Token` with the value from `GET /api/session`. "
        "Every error has the form `{error: {code, message, field}}`.",
        version=relume_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=RESPONSES,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.services = services
    app.add_middleware(
        SecurityMiddleware,
        names=own_names() | set(services.settings.host_names),
        # With a self-signed certificate, HSTS would keep browsers from ever accepting the warning again.
        only_tls=services.settings.tls and services.settings.tls_certificate is not None,
    )
    add_error_handlers(app)
    for module in _ROUTES:
        app.include_router(module.router)
    app.mount("/page", static.PageFiles(), name="page")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(caller: Viewer) -> dict[str, Any]:
        """Return the OpenAPI description."""
        del caller
        return app.openapi()

    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the background tasks."""
    services: Services = app.state.services
    tasks = [
        asyncio.create_task(services.broadcaster.run()),
        asyncio.create_task(_clean_up_regularly(services)),
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


async def _clean_up_regularly(services: Services) -> None:
    await to_thread.run_sync(services.uploads.resume_checks)
    while True:
        await to_thread.run_sync(remove_old_previews, services)
        await to_thread.run_sync(services.uploads.clean_up, services.upload_writer.busy)
        await asyncio.sleep(_CLEAN_UP_EVERY_S)


def remove_old_previews(services: Services) -> None:
    """Remove previews that finished more than a day ago."""
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
