"""Live updates for all browsers: the queue is polled once, and its changes are sent to every listener.

The queue's revision is read about twice a second while anyone listens. Each change is serialised once and queued for
every connection that has not sent it yet: a connection starts at the revision that its page loaded, so that no change
between the two is lost. The queue of a client that does not keep up is replaced by a `resync` event, so memory stays
bounded.
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
_FOLDERS: Final = make_event("folders", {})  # without data: only administrators may see folders, and they fetch them


@dataclass(eq=False, slots=True)
class Listener:
    """One connected browser, and the revisions up to which it has been sent the changes."""

    caller: Principal
    revision: int = 0
    folder_revision: int = 0
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
    and for listeners that see all jobs. `exact` limits it to listeners of exactly this owner. `revision` is that of the
    change; None sends it to every listener that has anything new.
    """

    event: ServerSentEvent
    owner: str | None = None
    exact: bool = False
    revision: int | None = None

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
            try:
                now = loop.time()
                if now - checked_at >= CHECK_EVERY_S:
                    checked_at = now
                    await self._close_invalid()
                await self._send_changes(tuple(self._listeners))
                if now - system_at >= SYSTEM_EVERY_S:
                    system_at = now
                    event = make_event("system", await to_thread.run_sync(self._read_system))
                    for listener in self._listeners:
                        listener.put(event)
            except (StoreError, OSError) as error:
                logger.warning("cannot send live updates: %s", error)
            await asyncio.sleep(POLL_EVERY_S)

    async def _send_changes(self, listeners: tuple[Listener, ...]) -> None:
        """Queue for each of some listeners what changed since its revisions."""
        if not listeners:
            return
        owners = {self._owner_of(listener.caller) for listener in listeners}
        oldest = min(listener.revision for listener in listeners)
        revision, folder_revision, updates = await to_thread.run_sync(self._poll, oldest, owners)
        for listener in listeners:
            owner = self._owner_of(listener.caller)
            if listener.revision < revision:
                for update in updates:
                    if update.is_for(owner) and (update.revision is None or update.revision > listener.revision):
                        listener.put(update.event)
                listener.revision = revision
            if listener.folder_revision < folder_revision:
                listener.put(_FOLDERS)
                listener.folder_revision = folder_revision

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

    async def listen(self, caller: Principal, since: int | None = None) -> AsyncIterator[ServerSentEvent]:
        """Yield the events for one browser until it disconnects, logs out, or the server stops.

        Args:
            caller: The user of the browser.
            since: The revision of the queue that its page knows; None for the present one.
        """
        listener = Listener(caller, closed=self.stopping)
        await to_thread.run_sync(self._greet, listener, since)
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

    def _greet(self, listener: Listener, since: int | None) -> None:
        """Set the revisions at which a listener starts, and queue its first events."""
        listener.folder_revision = self._queue.folder_revision()
        listener.revision = present = self._queue.revision()
        if since is not None and 0 <= present - since <= _MAX_QUEUED:
            listener.revision = since
        elif since is not None:
            listener.put(_RESYNC)
        listener.put(make_event("counts", self._queue.counts(self._owner_of(listener.caller))))
        listener.put(make_event("queue", {"is_held": self._queue.is_held()}))
        listener.put(make_event("system", self._read_system()))
        if since is not None:
            listener.put(_FOLDERS)

    def _poll(self, since: int, owners: set[str | None]) -> tuple[int, int, list[Update]]:
        """Return the revisions of the queue and of the folders, and the changes of the queue after a revision."""
        folder_revision, revision = self._queue.folder_revision(), self._queue.revision()
        if revision <= since:
            return revision, folder_revision, []
        changed, removed = self._queue.changed_since(since), self._queue.removed_since(since)
        names = self._users.names()
        updates = [
            Update(
                make_event("job", view_job(job, self._queue.files(job.id), names).model_dump()),
                owner=job.owner or "",
                revision=job.revision,
            )
            for job in changed
        ]
        updates += [Update(make_event("job", {"id": job_id, "removed": True})) for job_id in removed]
        updates += [
            Update(make_event("counts", self._queue.counts(owner)), owner=owner, exact=True) for owner in owners
        ]
        updates.append(Update(make_event("queue", {"is_held": self._queue.is_held()})))
        if any(job.folder is not None for job in changed):
            updates.append(Update(_FOLDERS))
        return max([revision, *(job.revision for job in changed)]), folder_revision, updates
