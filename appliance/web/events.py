"""Live updates: one look at the queue for all browsers, and a short line of messages for each of them.

The queue's revision is read about twice a second while anyone listens. What changed is written as text once and given
to every connection; one that does not keep up loses its line and is told to ask anew, so nothing grows.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from anyio import to_thread

from appliance.accounts.book import Accounts
from appliance.accounts.principal import Principal, Role
from appliance.jobs.queue import JobQueue
from appliance.store.errors import StoreError
from appliance.web.views import view_job

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 0.5
SYSTEM_EVERY_S: Final = 5.0
CHECK_EVERY_S: Final = 5.0
KEEP_ALIVE_S: Final = 15.0
_MAX_WAITING: Final = 500
_MAX_LISTENERS: Final = 500
_MAX_OF_PERSON: Final = 10
_RESYNC: Final = b"event: resync\ndata: {}\n\n"


@dataclass(eq=False, slots=True)
class Listener:
    """One browser that listens."""

    caller: Principal
    line: deque[bytes] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def put(self, message: bytes) -> None:
        """Give a message; a full line is emptied and replaced by the advice to ask anew."""
        if len(self.line) >= _MAX_WAITING:
            self.line.clear()
            message = _RESYNC
        self.line.append(message)
        self.wake.set()

    def close(self) -> None:
        """End the connection."""
        self.closed = True
        self.wake.set()


class Broadcaster:
    """Tells every listener what changes; used from the event loop alone, but for `stop`."""

    def __init__(
        self,
        queue: JobQueue,
        accounts: Accounts,
        read_system: Callable[[], dict[str, Any]],
        *,
        own_only: bool = False,
    ) -> None:
        """Make it; with `own_only` users other than administrators are told of their own jobs alone."""
        self._queue, self._accounts, self._read_system = queue, accounts, read_system
        self._own_only = own_only
        self._listeners: dict[Listener, None] = {}  # the oldest first
        self._revision = self._folder_revision = 0
        self._someone = asyncio.Event()
        self.stopping = False

    @property
    def listeners(self) -> int:
        """How many browsers listen."""
        return len(self._listeners)

    async def run(self) -> None:
        """Look and tell until cancelled; without a listener nothing is looked at."""
        loop = asyncio.get_running_loop()
        seen_at = checked_at = loop.time()
        while True:
            if not self._listeners:
                self._someone.clear()
                await self._someone.wait()
                seen_at = checked_at = loop.time()
                self._folder_revision = await to_thread.run_sync(self._queue.folder_revision)
                self._revision = await to_thread.run_sync(self._queue.revision)
            try:
                now = loop.time()
                if now - checked_at >= CHECK_EVERY_S:
                    checked_at = now
                    await self._check()
                owners = {self._owner_of(listener.caller) for listener in self._listeners}
                told = await to_thread.run_sync(self._look, owners)
                if now - seen_at >= SYSTEM_EVERY_S:
                    seen_at = now
                    told.append(Update(message("system", await to_thread.run_sync(self._read_system))))
                for listener in self._listeners:
                    owner = self._owner_of(listener.caller)
                    for one in told:
                        if one.is_for(owner):
                            listener.put(one.text)
            except (StoreError, OSError) as error:
                logger.warning("changes cannot be told: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _check(self) -> None:
        """End the connections of those who would not be let in any more, however much there is to tell."""
        listeners = tuple(self._listeners)
        held = await to_thread.run_sync(self._accounts.still_valid, {listener.caller for listener in listeners})
        for listener in listeners:
            if listener.caller not in held:
                listener.close()

    def stop(self) -> None:
        """End every connection soon: the server stops."""
        self.stopping = True
        for listener in tuple(self._listeners):
            listener.close()

    def drop(self, session: str) -> None:
        """End the connections of a log-in that ended."""
        for listener in self._listeners:
            if listener.caller.session == session:
                listener.close()

    def is_full(self) -> bool:
        """Return whether no further browser can listen."""
        return len(self._listeners) >= _MAX_LISTENERS

    async def listen(self, caller: Principal) -> AsyncIterator[bytes]:
        """Yield the messages for one browser until it goes, logs out, or the server stops."""
        listener = Listener(caller, closed=self.stopping)
        for text in await to_thread.run_sync(self._greet, self._owner_of(caller)):
            listener.put(text)
        own = [other for other in self._listeners if other.caller.id == caller.id and not other.closed]
        for oldest in own[: max(0, len(own) + 1 - _MAX_OF_PERSON)]:
            oldest.close()
        self._listeners[listener] = None
        self._someone.set()
        try:
            yield b"retry: 2000\n\n"
            while not listener.closed:
                while listener.line:
                    yield listener.line.popleft()
                listener.wake.clear()
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await listener.wake.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._listeners.pop(listener, None)

    def _owner_of(self, caller: Principal) -> str | None:
        """Return the only user whose jobs a caller is told of, None for those of all."""
        return caller.id if self._own_only and caller.role is not Role.ADMINISTRATOR else None

    def _greet(self, owner: str | None) -> list[bytes]:
        return [
            message("counts", self._queue.counts(owner)),
            message("queue", {"is_held": self._queue.is_held()}),
            message("system", self._read_system()),
        ]

    def _look(self, owners: set[str | None]) -> "list[Update]":
        before = self._revision
        folder_revision, revision = self._queue.folder_revision(), self._queue.revision()
        # What is in them is for administrators, who ask for it.
        folders = [Update(message("folders", {}))] if folder_revision != self._folder_revision else []
        self._folder_revision = folder_revision
        if revision == before:
            return folders
        changed, removed = self._queue.changed_since(before), self._queue.removed_since(before)
        self._revision = max([revision, *(job.revision for job in changed)])
        names = self._accounts.users.names()
        told = [
            Update(message("job", view_job(job, self._queue.files(job.id), names).model_dump()), owner=job.owner or "")
            for job in changed
        ]
        told += [Update(message("job", {"id": job_id, "removed": True})) for job_id in removed]
        told += [Update(message("counts", self._queue.counts(owner)), owner=owner, exact=True) for owner in owners]
        if not folders and any(job.folder is not None for job in changed):
            folders = [Update(message("folders", {}))]
        return [*told, Update(message("queue", {"is_held": self._queue.is_held()})), *folders]


@dataclass(frozen=True, slots=True)
class Update:
    """One message: for everyone, or about the jobs of an owner (empty: of nobody); `exact` is for that owner alone."""

    text: bytes
    owner: str | None = None
    exact: bool = False

    def is_for(self, owner: str | None) -> bool:
        """Return whether a listener gets it who is told of one owner's jobs, or (None) of all."""
        if self.exact:
            return self.owner == owner
        return owner is None or self.owner is None or self.owner == owner


def message(event: str, data: Any) -> bytes:
    """Write one message as the protocol of server-sent events has it."""
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")
