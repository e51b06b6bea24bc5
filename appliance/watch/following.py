"""Makes the jobs of one folder's files, and sees what becomes of them: done, moved, broken, cancelled, held by day."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from appliance.jobs.errors import JobNotFoundError, JobStateError
from appliance.jobs.queue import JobQueue
from appliance.jobs.records import JobRecord, JobState, NewJob, Origin
from appliance.watch.contents import mark_content
from appliance.watch.errors import UnreadableError
from appliance.watch.folder import FileState, WatchedFile, WatchFolder
from appliance.watch.known import KnownFiles, find_missing_mount, is_stat
from appliance.watch.names import READY_SUFFIXES, show_name
from appliance.watch.originals import move_original
from appliance.watch.patience import Patience
from appliance.watch.store import FolderStore
from runtime.errors import OutputError
from runtime.plain_files import make_plain_folder

logger = logging.getLogger(__name__)

Tell = Callable[[str, str], None]

_FOLLOWED: Final = (FileState.QUEUED, FileState.BROKEN, FileState.CANCELLED)


class Following:
    """The jobs of one folder; used by one thread."""

    def __init__(
        self,
        folder: WatchFolder,
        store: FolderStore,
        queue: JobQueue,
        known: KnownFiles,
        *,
        patience: Patience,
        now: Callable[[], datetime],
        tell: Tell,
    ) -> None:
        self.destination_trouble: str | None = None
        self._folder, self._wish = folder, folder.wish
        self._store, self._queue, self._known = store, queue, known
        self._patience, self._now, self._tell = patience, now, tell
        self._revision = -1
        self._was_open: bool | None = None

    def follow(self) -> None:
        """See what became of the jobs, and start and hold them as the time of the day says."""
        is_open = self._wish.schedule is None or self._wish.schedule.is_open(self._now())
        revision = self._queue.revision()
        for known in self._changed(revision, is_open != self._was_open):
            self._follow_job(known, is_open=is_open)
        for known in self._known.all(FileState.BROKEN, FileState.DONE):
            if self._patience.is_due(known):
                self._retry(known)
            elif self._was_open is None and known.state is FileState.DONE:
                self._move(known)  # what the last run was stopped before
        if is_open:
            for known in self._known.all(FileState.WAITING):
                self._submit(known)
        self._revision, self._was_open = revision, is_open

    def _changed(self, revision: int, every_one: bool) -> list[WatchedFile]:
        """Give the files whose jobs may have changed."""
        followed = {known.job: known for known in self._known.all(*_FOLLOWED) if known.job is not None}
        if every_one:
            return list(followed.values())
        if revision == self._revision or not followed:
            return []
        ids = [job.id for job in self._queue.changed_since(self._revision)]
        ids += self._queue.removed_since(self._revision)
        return [followed[job] for job in ids if job in followed]

    def _submit(self, known: WatchedFile) -> None:
        """Make the job of a file: the job and the note of it, or neither."""
        assert known.target is not None
        self.destination_trouble = self._make_place(known.target.parent)
        if self.destination_trouble is not None:
            self._store.set_trouble(self._folder.id, self.destination_trouble)
            return
        new = NewJob(
            source=self._known.path(known),
            title=show_name(known.name),
            options=self._wish.options,
            target=known.target,
            origin=Origin.WATCH,
            folder=self._folder.id,
            source_digest=known.digest,
        )
        with self._store.database.transaction():
            job = self._queue.add(new)
            queued = replace(known, state=FileState.QUEUED, job=job.id)
            self._known.ledger.put(queued)
        self._known.note(queued)
        self._tell(known.name, "complete; queued")

    def _make_place(self, place: Path) -> str | None:
        """Make the folder of a result; say why it cannot be made."""
        missing = find_missing_mount(self._folder.destination_mount, self._wish.destination)
        if missing is not None:
            return missing
        try:
            make_plain_folder(place, below=self._wish.destination)
        except OSError as error:
            return f"the destination {show_name(str(self._wish.destination))} cannot be written: {error.strerror}"
        if not os.access(place, os.W_OK | os.X_OK):
            return f"the destination {show_name(str(place))} is not writable; check its permissions"
        return None

    def _follow_job(self, known: WatchedFile, *, is_open: bool) -> None:
        assert known.job is not None
        try:
            job = self._queue.get(known.job)
        except JobNotFoundError:
            if known.state is FileState.QUEUED:
                self._end(known, FileState.CANCELLED, "somebody removed its job")
            return
        if job.state is JobState.DONE:
            self._finish(known, job)
        elif job.state is JobState.FAILED:
            if known.state is FileState.QUEUED:
                self._fail(known, job.message or "its job failed; the log tells more")
        elif job.state is JobState.CANCELLED:
            if known.state is FileState.QUEUED:
                self._end(known, FileState.CANCELLED, "somebody cancelled its job")
        elif known.state is not FileState.QUEUED:
            self._known.put(replace(known, state=FileState.QUEUED, reason="", retry_at=None))
        else:
            self._hold(known, job, is_open=is_open)

    def _hold(self, known: WatchedFile, job: JobRecord, *, is_open: bool) -> None:
        """Pause a job when its time of the day ends; one that somebody lets go on all the same is left alone."""
        with suppress(JobStateError):
            if is_open and known.held:
                self._queue.resume(job.id)
                self._known.put(replace(known, held=False))
                self._tell(known.name, "goes on")
            elif not is_open and not known.held and job.state in (JobState.QUEUED, JobState.RUNNING):
                self._queue.pause(job.id)
                self._known.put(replace(known, held=True))
                self._tell(known.name, "waits for its time of the day")

    def _finish(self, known: WatchedFile, job: JobRecord) -> None:
        result = job.result or known.target
        try:
            if result is not None:
                self._known.ledger.set_result(result, mark_content(str(result)))
        except UnreadableError as error:
            logger.info("the result %s cannot be read: %s", result, error)
        done = replace(known, state=FileState.DONE, target=result, reason="", tries=0, retry_at=None, held=False)
        self._known.put(done)
        self._tell(known.name, f"done: {show_name(str(result))}")
        self._move(done)

    def _move(self, known: WatchedFile) -> None:
        """Move the original of a finished job to the done folder, unless it is no longer what was done."""
        path = self._known.path(known)
        if self._wish.done_folder is None or not is_stat(str(path), known.size, known.mtime_ns):
            return
        try:
            moved = move_original(path, known.name, self._wish.done_folder)
        except OutputError as error:
            tries = known.tries + 1
            reason = f"enhanced, but {error}"
            self._known.put(replace(known, reason=reason, tries=tries, retry_at=self._patience.retry_at(tries)))
            self._tell(known.name, reason)
            return
        for ending in READY_SUFFIXES:
            if path.with_name(path.name + ending).is_file():
                with suppress(OutputError):
                    move_original(path.with_name(path.name + ending), known.name + ending, self._wish.done_folder)
        if known.reason:
            self._known.put(replace(known, reason="", retry_at=None))
        self._tell(known.name, f"original moved to {show_name(str(moved))}")

    def _fail(self, known: WatchedFile, reason: str) -> None:
        tries = known.tries + 1
        self._known.put(
            replace(known, state=FileState.BROKEN, reason=reason, tries=tries, retry_at=self._patience.retry_at(tries))
        )
        self._tell(known.name, f"failed: {reason}")

    def _end(self, known: WatchedFile, state: FileState, reason: str) -> None:
        self._known.release(known)
        self._known.put(replace(known, state=state, reason=reason, retry_at=None))
        self._tell(known.name, reason)

    def _retry(self, known: WatchedFile) -> None:
        if known.state is FileState.DONE:
            self._move(known)
        elif known.job is not None:
            with suppress(JobNotFoundError, JobStateError):
                self._queue.retry(known.job)
            self._known.put(replace(known, state=FileState.QUEUED, retry_at=None))
            self._tell(known.name, "tried again")
