"""Follows the jobs of one folder: adds, holds and retries them, and moves originals after success."""

import filecmp
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import uuid4

from appliance.jobs.errors import JobNotFoundError, JobStateError
from appliance.jobs.job import JobRecord, JobState, NewJob, Origin
from appliance.jobs.queue import JobQueue
from appliance.watch.errors import UnreadableError
from appliance.watch.file_index import FileIndex, is_stat, mark_content
from appliance.watch.file_state import FileEvent, FileState, WatchedFile
from appliance.watch.folder import WatchFolder
from appliance.watch.path_rules import find_missing_mount
from appliance.watch.scan import READY_SUFFIXES, show_name
from appliance.watch.store import FolderStore
from runtime.atomic_files import publish_file
from runtime.errors import OutputError
from runtime.safe_open import make_plain_folder


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failure is tried, and the pauses between: each is `factor` times the one before."""

    tries: int = 4
    first_s: float = 30.0
    factor: float = 5.0

    def retry_at(self, tries: int) -> float | None:
        """Return the time of the next try after a number of tries, None after the last one."""
        return None if tries >= self.tries else time.time() + self.pause_s(tries)

    def pause_s(self, tries: int) -> float:
        """Return the pause after a number of tries."""
        return self.first_s * self.factor ** (tries - 1)

    def is_due(self, file: WatchedFile) -> bool:
        """Return True if a retry is due, also where the clock was set back and its time is implausibly far away."""
        if file.retry_at is None:
            return False
        left_s = file.retry_at - time.time()
        return left_s <= 0 or left_s > self.pause_s(file.tries) + 1


_MAX_NAMES: Final = 10_000


def move_original(path: Path, relative: str, done_folder: Path) -> Path:
    """Move a file to the same place below the done folder.

    Args:
        path: The original.
        relative: Its path below the watch folder.
        done_folder: The done folder; missing folders are created.

    Returns:
        The new path; the name is another one where its own was taken.

    Raises:
        OutputError: It cannot be moved, and stays in place.
    """
    try:
        for number in range(1, _MAX_NAMES):
            target = done_folder / _numbered(relative, number)
            make_plain_folder(target.parent, below=done_folder)
            if not os.path.lexists(target):
                return _move(path, target)
            if _is_copy(target, path):
                # An earlier move was interrupted before its last step.
                os.unlink(path)
                return target
    except OSError as error:
        raise OutputError(f"the original cannot be moved to {done_folder}: {error.strerror or error}") from error
    raise OutputError(f"the original cannot be moved to {done_folder}: every name for it is taken")


def _numbered(relative: str, number: int) -> PurePosixPath:
    path = PurePosixPath(relative)
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def _is_copy(target: Path, path: Path) -> bool:
    """Return True if a file is a hard link to the original, or a copy of it."""
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
            os.unlink(target)  # the link was created, but the original could not be removed
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

Notify = Callable[[str, str], None]

_FOLLOWED: Final = (FileState.QUEUED, FileState.FAILED, FileState.IGNORED)


class JobTracker:
    """The jobs of one folder; used by one thread."""

    def __init__(
        self,
        folder: WatchFolder,
        store: FolderStore,
        queue: JobQueue,
        index: FileIndex,
        *,
        retry_policy: RetryPolicy,
        now: Callable[[], datetime],
        notify: Notify,
    ) -> None:
        self.destination_trouble: str | None = None
        self._folder, self._config = folder, folder.config
        self._store, self._queue, self._index = store, queue, index
        self._retry_policy, self._now, self._notify = retry_policy, now, notify
        self._revision = -1
        self._was_open: bool | None = None

    def update(self) -> None:
        """Apply the states of the jobs to their files; add, hold and resume jobs by the schedule."""
        is_open = self._config.schedule is None or self._config.schedule.is_open(self._now())
        revision = self._queue.revision()
        for file in self._list_changed(revision, every_one=is_open != self._was_open):
            self._follow(file, is_open=is_open)
        for file in self._index.all(FileState.FAILED, FileState.DONE):
            if self._retry_policy.is_due(file):
                self._retry(file)
            elif self._was_open is None and file.state is FileState.DONE:
                self._move(file)  # the last run may have ended before
        if is_open:
            for file in self._index.all(FileState.VALIDATED):
                self._submit(file)
        self._revision, self._was_open = revision, is_open

    def _list_changed(self, revision: int, *, every_one: bool) -> list[WatchedFile]:
        """Return the files whose jobs may have changed."""
        followed = {file.job: file for file in self._index.all(*_FOLLOWED) if file.job is not None}
        if every_one:
            return list(followed.values())
        if revision == self._revision or not followed:
            return []
        ids = [job.id for job in self._queue.changed_since(self._revision)]
        ids += self._queue.removed_since(self._revision)
        return [followed[job] for job in ids if job in followed]

    def _submit(self, file: WatchedFile) -> None:
        """Add the job of a file, in one transaction with the file's state."""
        assert file.target is not None
        self.destination_trouble = self._prepare_folder(file.target.parent)
        if self.destination_trouble is not None:
            self._store.set_trouble(self._folder.id, self.destination_trouble)
            return
        new = NewJob(
            source=self._path(file),
            title=show_name(file.name),
            options=self._config.options,
            target=file.target,
            origin=Origin.WATCH,
            folder=self._folder.id,
            source_digest=file.digest,
        )
        with self._store.database.transaction():
            job = self._queue.add(new)
            self._index.transition(file, FileEvent.SUBMITTED, job=job.id)
        self._notify(file.name, "complete; queued")

    def _prepare_folder(self, folder: Path) -> str | None:
        """Create the folder of a result; return a message if that is not possible."""
        missing = find_missing_mount(self._folder.destination_mount, self._config.destination)
        if missing is not None:
            return missing
        try:
            make_plain_folder(folder, below=self._config.destination)
        except OSError as error:
            return f"the destination {show_name(str(self._config.destination))} is not writable: {error.strerror}"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"the destination {show_name(str(folder))} is not writable; check its permissions"
        return None

    def _follow(self, file: WatchedFile, *, is_open: bool) -> None:
        assert file.job is not None
        is_queued = file.state is FileState.QUEUED
        try:
            job = self._queue.get(file.job)
        except JobNotFoundError:
            if is_queued:
                self._ignore(file, "its job was removed")
            return
        if job.state is JobState.DONE:
            self._finish(file, job)
        elif job.state is JobState.FAILED:
            if is_queued:
                self._fail(file, job.message or "its job failed; see the log")
        elif job.state is JobState.CANCELLED:
            if is_queued:
                self._ignore(file, "its job was cancelled")
        elif is_queued:
            self._apply_schedule(file, job, is_open=is_open)
        else:
            self._index.transition(file, FileEvent.JOB_RESTARTED, reason="", retry_at=None)

    def _apply_schedule(self, file: WatchedFile, job: JobRecord, *, is_open: bool) -> None:
        """Pause a job when the schedule closes; one that someone resumes all the same is left alone."""
        with suppress(JobStateError):
            if is_open and file.held:
                self._queue.resume(job.id)
                self._index.update(file, held=False)
                self._notify(file.name, "resumed")
            elif not is_open and not file.held and job.state in (JobState.QUEUED, JobState.RUNNING):
                self._queue.pause(job.id)
                self._index.update(file, held=True)
                self._notify(file.name, "paused outside the scheduled hours")

    def _finish(self, file: WatchedFile, job: JobRecord) -> None:
        result = job.result or file.target
        try:
            if result is not None:
                self._index.table.set_result(result, mark_content(str(result)))
        except UnreadableError as error:
            logger.info("the result %s cannot be read: %s", result, error)
        cleared = {"reason": "", "tries": 0, "retry_at": None, "held": False}
        done = self._index.transition(file, FileEvent.JOB_DONE, target=result, **cleared)
        self._notify(file.name, f"done: {show_name(str(result))}")
        self._move(done)

    def _move(self, file: WatchedFile) -> None:
        """Move the original of a finished job to the done folder, unless it has changed since."""
        path = self._path(file)
        if self._config.done_folder is None or not is_stat(str(path), file.size, file.mtime_ns):
            return
        try:
            moved = move_original(path, file.name, self._config.done_folder)
        except OutputError as error:
            tries = file.tries + 1
            reason = f"enhanced, but {error}"
            self._index.update(file, reason=reason, tries=tries, retry_at=self._retry_policy.retry_at(tries))
            self._notify(file.name, reason)
            return
        for suffix in READY_SUFFIXES:
            if path.with_name(path.name + suffix).is_file():
                with suppress(OutputError):
                    move_original(path.with_name(path.name + suffix), file.name + suffix, self._config.done_folder)
        if file.reason:
            self._index.update(file, reason="", retry_at=None)
        self._notify(file.name, f"original moved to {show_name(str(moved))}")

    def _fail(self, file: WatchedFile, reason: str) -> None:
        tries = file.tries + 1
        retry_at = self._retry_policy.retry_at(tries)
        self._index.transition(file, FileEvent.JOB_FAILED, reason=reason, tries=tries, retry_at=retry_at)
        self._notify(file.name, f"failed: {reason}")

    def _ignore(self, file: WatchedFile, reason: str) -> None:
        cleared = {"digest": None, "target": None, "retry_at": None}
        self._index.transition(file, FileEvent.JOB_CANCELLED, reason=reason, **cleared)
        self._notify(file.name, reason)

    def _retry(self, file: WatchedFile) -> None:
        if file.state is FileState.DONE:
            self._move(file)
        elif file.job is not None:
            with suppress(JobNotFoundError, JobStateError):
                self._queue.retry(file.job)
            self._index.transition(file, FileEvent.JOB_RESTARTED, retry_at=None)
            self._notify(file.name, "retried")

    def _path(self, file: WatchedFile) -> Path:
        return self._config.path / file.name
