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
    from appliance.web.connections import Visitors
    from appliance.web.estimate_cache import Trials
    from appliance.web.events import Broadcaster
    from appliance.web.mail import Mailer
    from appliance.web.own_presets import OwnPresets
    from appliance.web.system import System
    from appliance.web.upload_store import Uploads
    from appliance.web.upload_writer import Receiver
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
    uploads: "Uploads"
    receiver: "Receiver"
    webhooks: "Webhooks"
    mailer: "Mailer"
    broadcaster: "Broadcaster"
    system: "System"
    visitors: "Visitors"
    own_presets: "OwnPresets"
    trials: "Trials"
    trial: asyncio.Lock
    """Held while a file is tried out: two trials at once would both come out too slow."""


def services_of(request: Request) -> Services:
    """Return the services of the app that a request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
