"""When something that failed is tried again."""

import filecmp
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import uuid4

from appliance.jobs.errors import JobNotFoundError, JobStateError
from appliance.jobs.job import JobRecord, JobState, NewJob, Origin
from appliance.jobs.queue import JobQueue
from appliance.watch.errors import UnreadableError
from appliance.watch.file_index import KnownFiles, find_missing_mount, is_stat, mark_content
from appliance.watch.folder import FileState, WatchedFile, WatchFolder
from appliance.watch.scan import READY_SUFFIXES, show_name
from appliance.watch.store import FolderStore
from runtime.atomic_files import publish_file
from runtime.errors import OutputError
from runtime.safe_open import make_plain_folder


@dataclass(frozen=True, slots=True)
class Patience:
    """How often something that failed is tried, and after how long: each pause is `factor` times the one before."""

    tries: int = 4
    first_s: float = 30.0
    factor: float = 5.0

    def retry_at(self, tries: int) -> float | None:
        """Return the time of the next try after so many, None where there is none."""
        return None if tries >= self.tries else time.time() + self.pause_s(tries)

    def pause_s(self, tries: int) -> float:
        """Return the pause after so many tries."""
        return self.first_s * self.factor ** (tries - 1)

    def is_due(self, file: WatchedFile) -> bool:
        """Return whether it is time to try again; a time that a changed clock put far away counts as well."""
        if file.retry_at is None:
            return False
        left_s = file.retry_at - time.time()
        return left_s <= 0 or left_s > self.pause_s(file.tries) + 1


_MOST_NAMES: Final = 10_000


def move_original(path: Path, relative: str, done_folder: Path) -> Path:
    """Move a file to the same place below the done folder.

    Args:
        path: The original.
        relative: Its path below the watch folder.
        done_folder: The done folder; it and what is missing below it are made.

    Returns:
        Where the original is now: under another name where its own was taken.

    Raises:
        OutputError: It cannot be moved, and is where it was.
    """
    try:
        for number in range(1, _MOST_NAMES):
            target = done_folder / _numbered(relative, number)
            make_plain_folder(target.parent, below=done_folder)
            if not os.path.lexists(target):
                return _move(path, target)
            if _is_copy(target, path):
                # An earlier try was stopped before its last step.
                os.unlink(path)
                return target
    except OSError as error:
        raise OutputError(f"the original cannot be moved to {done_folder}: {error.strerror or error}") from error
    raise OutputError(f"the original cannot be moved to {done_folder}: every name for it is taken")


def _numbered(relative: str, number: int) -> PurePosixPath:
    path = PurePosixPath(relative)
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def _is_copy(target: Path, path: Path) -> bool:
    """Return whether a file is a link to the original, or a copy that was made of it."""
    there, here = os.lstat(target), os.lstat(path)
    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
        return True
    if not stat.S_ISREG(there.st_mode) or (there.st_size, there.st_mtime_ns) != (here.st_size, here.st_mtime_ns):
        return False
    return filecmp.cmp(target, path, shallow=False)


def _move(path: Path, target: Path) -> Path:
    if os.stat(path).st_dev == os.stat(target.parent).st_dev:
        with suppress(OSError):  # some file systems have no hard links
            os.link(path, target, follow_symlinks=False)
            os.unlink(path)
            return target
        if os.path.lexists(target):
            os.unlink(target)  # the link was made, but the original could not be removed
            raise OutputError("the original cannot be removed from its folder; check its permissions")
    partial = target.with_name(f".{uuid4().hex[:12]}.part")
    try:
        shutil.copy2(path, partial, follow_symlinks=False)
        if os.path.getsize(partial) != os.path.getsize(path):
            raise OutputError("the original changed while it was copied")
        publish_file(partial, target, overwrite=False)
    finally:
        with suppress(OSError):
            partial.unlink()
    try:
        os.unlink(path)
    except OSError:
        target.unlink()
        raise
    return target


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
        """Return the files whose jobs may have changed."""
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
