"""Live updates for all browsers: the queue is polled once, and its changes are sent to every listener.

The queue's revision is read about twice a second while anyone listens. Each change is serialised once and queued for
every connection. The queue of a client that does not keep up is replaced by a `resync` event, so memory stays bounded.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from anyio import to_thread
from fastapi.sse import ServerSentEvent

from appliance.accounts.principal import Principal, Role
from appliance.accounts.users import Users
from appliance.jobs.queue import JobQueue
from appliance.store.errors import StoreError
from appliance.web.views import view_job

logger = logging.getLogger(__name__)

POLL_EVERY_S: Final = 0.5
SYSTEM_EVERY_S: Final = 5.0
CHECK_EVERY_S: Final = 5.0
_RETRY_MS: Final = 2000
_MAX_QUEUED: Final = 500
_MAX_LISTENERS: Final = 500
_MAX_PER_USER: Final = 10


def make_event(name: str, data: Any) -> ServerSentEvent:
    """Create an event with JSON data; text that is not valid Unicode is replaced."""
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()
    return ServerSentEvent(event=name, raw_data=text)


_RESYNC: Final = make_event("resync", {})


@dataclass(eq=False, slots=True)
class Listener:
    """One connected browser."""

    caller: Principal
    queue: deque[ServerSentEvent] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def put(self, event: ServerSentEvent) -> None:
        """Queue an event; a full queue is replaced by `resync`, on which the client fetches the list again."""
        if len(self.queue) >= _MAX_QUEUED:
            self.queue.clear()
            event = _RESYNC
        self.queue.append(event)
        self.wake.set()

    def close(self) -> None:
        """End the connection."""
        self.closed = True
        self.wake.set()


@dataclass(frozen=True, slots=True)
class Update:
    """An event and its recipients.

    `owner` None is for everyone; otherwise it is about the jobs of that owner (empty: jobs without one), for the owner
    and for listeners that see all jobs. `exact` limits it to listeners of exactly this owner.
    """

    event: ServerSentEvent
    owner: str | None = None
    exact: bool = False

    def is_for(self, owner: str | None) -> bool:
        """Return True if a listener receives it that sees the jobs of one owner, or all jobs (None)."""
        if self.exact:
            return self.owner == owner
        return owner is None or self.owner is None or self.owner == owner


class Broadcaster:
    """Sends changes to all listeners; used from the event loop alone, except for `stop`."""

    def __init__(
        self,
        queue: JobQueue,
        users: Users,
        still_valid: Callable[[Collection[Principal]], set[Principal]],
        read_system: Callable[[], dict[str, Any]],
        *,
        own_only: bool = False,
    ) -> None:
        """Create the broadcaster.

        Args:
            queue: The job queue.
            users: For the names of the jobs' owners.
            still_valid: Returns those listeners that are still authenticated.
            read_system: Returns the data of `system` events.
            own_only: Users other than administrators receive only their own jobs.
        """
        self._queue, self._users, self._still_valid, self._read_system = queue, users, still_valid, read_system
        self._own_only = own_only
        self._listeners: dict[Listener, None] = {}  # oldest first
        self._revision = self._folder_revision = 0
        self._has_listener = asyncio.Event()
        self.stopping = False

    @property
    def listeners(self) -> int:
        """The number of connected browsers."""
        return len(self._listeners)

    async def run(self) -> None:
        """Poll and send until cancelled; nothing is polled while nobody listens."""
        loop = asyncio.get_running_loop()
        system_at = checked_at = loop.time()
        while True:
            if not self._listeners:
                self._has_listener.clear()
                await self._has_listener.wait()
                system_at = checked_at = loop.time()
                self._folder_revision = await to_thread.run_sync(self._queue.folder_revision)
                self._revision = await to_thread.run_sync(self._queue.revision)
            try:
                now = loop.time()
                if now - checked_at >= CHECK_EVERY_S:
                    checked_at = now
                    await self._close_invalid()
                owners = {self._owner_of(listener.caller) for listener in self._listeners}
                updates = await to_thread.run_sync(self._poll, owners)
                if now - system_at >= SYSTEM_EVERY_S:
                    system_at = now
                    updates.append(Update(make_event("system", await to_thread.run_sync(self._read_system))))
                for listener in self._listeners:
                    owner = self._owner_of(listener.caller)
                    for update in updates:
                        if update.is_for(owner):
                            listener.put(update.event)
            except (StoreError, OSError) as error:
                logger.warning("cannot send live updates: %s", error)
            await asyncio.sleep(POLL_EVERY_S)

    async def _close_invalid(self) -> None:
        """Close connections whose session or token is no longer valid, even if they are never idle."""
        listeners = tuple(self._listeners)
        valid = await to_thread.run_sync(self._still_valid, {listener.caller for listener in listeners})
        for listener in listeners:
            if listener.caller not in valid:
                listener.close()

    def stop(self) -> None:
        """Close every connection: the server is stopping."""
        self.stopping = True
        for listener in tuple(self._listeners):
            listener.close()

    def drop(self, session: str) -> None:
        """Close the connections of a session that ended."""
        for listener in self._listeners:
            if listener.caller.session == session:
                listener.close()

    def is_full(self) -> bool:
        """Return True if no further browser can connect."""
        return len(self._listeners) >= _MAX_LISTENERS

    async def listen(self, caller: Principal) -> AsyncIterator[ServerSentEvent]:
        """Yield the events for one browser until it disconnects, logs out, or the server stops."""
        listener = Listener(caller, closed=self.stopping)
        for event in await to_thread.run_sync(self._initial_events, self._owner_of(caller)):
            listener.put(event)
        own = [other for other in self._listeners if other.caller.id == caller.id and not other.closed]
        for oldest in own[: max(0, len(own) + 1 - _MAX_PER_USER)]:
            oldest.close()
        self._listeners[listener] = None
        self._has_listener.set()
        try:
            yield ServerSentEvent(retry=_RETRY_MS)
            while not listener.closed:
                while listener.queue:
                    yield listener.queue.popleft()
                listener.wake.clear()
                await listener.wake.wait()
        finally:
            self._listeners.pop(listener, None)

    def _owner_of(self, caller: Principal) -> str | None:
        """Return the only user whose jobs a caller may see; None for all jobs."""
        return caller.id if self._own_only and caller.role is not Role.ADMINISTRATOR else None

    def _initial_events(self, owner: str | None) -> list[ServerSentEvent]:
        return [
            make_event("counts", self._queue.counts(owner)),
            make_event("queue", {"is_held": self._queue.is_held()}),
            make_event("system", self._read_system()),
        ]

    def _poll(self, owners: set[str | None]) -> list[Update]:
        before = self._revision
        folder_revision, revision = self._queue.folder_revision(), self._queue.revision()
        # Without data: only administrators may see folders, and they fetch them.
        folders = [Update(make_event("folders", {}))] if folder_revision != self._folder_revision else []
        self._folder_revision = folder_revision
        if revision == before:
            return folders
        changed, removed = self._queue.changed_since(before), self._queue.removed_since(before)
        self._revision = max([revision, *(job.revision for job in changed)])
        names = self._users.names()
        updates = [
            Update(
                make_event("job", view_job(job, self._queue.files(job.id), names).model_dump()), owner=job.owner or ""
            )
            for job in changed
        ]
        updates += [Update(make_event("job", {"id": job_id, "removed": True})) for job_id in removed]
        updates += [
            Update(make_event("counts", self._queue.counts(owner)), owner=owner, exact=True) for owner in owners
        ]
        if not folders and any(job.folder is not None for job in changed):
            folders = [Update(make_event("folders", {}))]
        return [*updates, Update(make_event("queue", {"is_held": self._queue.is_held()})), *folders]
