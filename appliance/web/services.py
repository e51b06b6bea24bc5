"""The services of a running server, created once at start and carried by the application."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from appliance.accounts.audit import Audit
from appliance.accounts.login import LoginService
from appliance.accounts.rate_limit import LoginLimiter, LoginLimits
from appliance.accounts.sessions import SessionLimits, Sessions
from appliance.accounts.tokens import Tokens
from appliance.accounts.users import Users
from appliance.jobs.queue import JobQueue
from appliance.settings import Settings
from appliance.settings_file import FILE_NAME, LAST_GOOD_NAME, load_settings
from appliance.store.database import Database
from appliance.watch.store import FolderStore
from appliance.web.connections import ConnectionLimiter
from appliance.web.estimate_cache import EstimateCache
from appliance.web.events import Broadcaster
from appliance.web.mail import Mailer
from appliance.web.own_presets import OwnPresets
from appliance.web.system import SystemStatus, Workers
from appliance.web.upload_probe import UploadAdviser
from appliance.web.upload_store import UploadStore
from appliance.web.upload_writer import UploadWriter
from appliance.web.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the routes work with."""

    settings: Settings
    settings_at_start: dict[str, Any]
    """The values of the file and the environment at start, without the command line."""
    settings_given: frozenset[str]
    """The settings that the command line fixes."""
    settings_problem: str
    """Why the server runs with older settings than the saved ones; empty if it does not."""
    database: Database
    users: Users
    sessions: Sessions
    tokens: Tokens
    login_limiter: LoginLimiter
    login: LoginService
    audit: Audit
    queue: JobQueue
    folders: FolderStore
    uploads: UploadStore
    upload_writer: UploadWriter
    webhooks: Webhooks
    mailer: Mailer
    broadcaster: Broadcaster
    system: SystemStatus
    connections: ConnectionLimiter
    own_presets: OwnPresets
    advice: UploadAdviser
    estimates: EstimateCache
    estimate_lock: asyncio.Lock
    """Held during a test run: two at once would slow each other down and measure the wrong speed."""


def open_services(
    database: Database,
    settings: Settings,
    *,
    workers: Workers = tuple,
    given: frozenset[str] = frozenset(),
    problem: str = "",
    connections: ConnectionLimiter | None = None,
) -> Services:
    """Create the services.

    Args:
        database: The database of the data directory.
        settings: The settings that the server runs with.
        workers: Returns the status of the worker processes.
        given: The settings that the command line fixes.
        problem: Why these are not the saved settings.
        connections: The limiter of the listening socket; None creates one.
    """
    settings.uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
    at_start = load_settings(settings.data, file_name=LAST_GOOD_NAME if problem else FILE_NAME)
    users, tokens, queue = Users(database), Tokens(database), JobQueue(database)
    sessions = Sessions(
        database, SessionLimits(idle_s=settings.session_idle_hours * 3600, longest_s=settings.session_days * 86_400)
    )
    limiter = LoginLimiter(
        database,
        LoginLimits(settings.login_attempts, settings.login_attempts_address, settings.login_window_minutes * 60),
    )
    login = LoginService(database, users, sessions, tokens, limiter)
    system = SystemStatus(settings, workers, fallback=bool(problem))
    uploads = UploadStore(database, settings)
    return Services(
        settings=settings,
        settings_at_start=at_start.model_dump(mode="json"),
        settings_given=given,
        settings_problem=problem,
        database=database,
        users=users,
        sessions=sessions,
        tokens=tokens,
        login_limiter=limiter,
        login=login,
        audit=Audit(database),
        queue=queue,
        folders=FolderStore(database),
        uploads=uploads,
        upload_writer=UploadWriter(uploads),
        webhooks=Webhooks(database, queue, settings),
        mailer=Mailer(users, queue, settings),
        broadcaster=Broadcaster(queue, users, login.still_valid, system.brief, own_only=settings.own_jobs_only),
        system=system,
        connections=connections or ConnectionLimiter(),
        own_presets=OwnPresets(database),
        advice=UploadAdviser(settings.probe_timeout_s),
        estimates=EstimateCache(database),
        estimate_lock=asyncio.Lock(),
    )


def get_services(request: Request) -> Services:
    """Return the services of the application that received a request."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
