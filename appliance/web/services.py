"""What the routes work with, made once at start and carried by the app."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

from appliance.accounts.book import Accounts
from appliance.jobs.queue import JobQueue
from appliance.settings import Settings
from appliance.store.database import Database

if TYPE_CHECKING:
    from appliance.watch.store import FolderStore
    from appliance.web.connections import ConnectionLimiter
    from appliance.web.estimate_cache import EstimateCache
    from appliance.web.events import Broadcaster
    from appliance.web.mail import Mailer
    from appliance.web.own_presets import OwnPresets
    from appliance.web.system import SystemStatus
    from appliance.web.upload_store import UploadStore
    from appliance.web.upload_writer import UploadWriter
    from appliance.web.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running box."""

    settings: Settings
    settings_at_start: dict[str, Any]
    """What the file and the environment held when the server started, without the command line."""
    settings_given: frozenset[str]
    """The settings that the command line fixes."""
    settings_problem: str
    """Why the server runs with older settings than those that were saved; empty where it does not."""
    database: Database
    accounts: Accounts
    queue: JobQueue
    folders: "FolderStore"
    uploads: "UploadStore"
    upload_writer: "UploadWriter"
    webhooks: "Webhooks"
    mailer: "Mailer"
    broadcaster: "Broadcaster"
    system: "SystemStatus"
    connections: "ConnectionLimiter"
    own_presets: "OwnPresets"
    estimates: "EstimateCache"
    estimate_lock: asyncio.Lock
    """Held during a test run: two at once would both measure too slow a speed."""


def get_services(request: Request) -> Services:
    """Return the services of the app that a request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
