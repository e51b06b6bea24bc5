"""Moves the files of one folder through their states: seen, stable, validated by content, then a job or a reason.

Every state is in the table of files, from which a restart resumes; only the hold time is measured again.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance.jobs.errors import JobNotFoundError, JobStateError
from appliance.jobs.job import options_to_json
from appliance.jobs.queue import JobQueue
from appliance.watch.errors import UnreadableError
from appliance.watch.file_index import FileIndex, digest_file, is_stat, mark_content
from appliance.watch.file_state import NO_FILE, FileEvent, FileState, WatchedFile
from appliance.watch.folder import WatchFolder
from appliance.watch.integrity_process import Inspector
from appliance.watch.job_tracker import JobTracker, Notify, RetryPolicy
from appliance.watch.path_rules import find_missing_mount, identity
from appliance.watch.scan import Identity, ScanResult, SeenFile, result_name, scan, show_name
from appliance.watch.stability import StabilityTracker
from appliance.watch.store import FolderStore
from runtime.errors import CancelledError

_MAX_NOTIFIED: Final = 1000
_WAITING: Final = (FileState.SEEN, FileState.STABLE, FileState.VALIDATED)


class FolderIngest:
    """The files of one folder; used by one thread."""

    def __init__(
        self,
        folder: WatchFolder,
        store: FolderStore,
        queue: JobQueue,
        inspector: Inspector,
        *,
        retry_policy: RetryPolicy | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
        notify: Notify = lambda *_: None,
    ) -> None:
        """Read the states of the files.

        Args:
            folder: The folder.
            store: The watch folders.
            queue: The queue for the jobs.
            inspector: Validates files.
            retry_policy: When failures are retried.
            is_stopped: Ends a scan early.
            clock: Measures the hold time.
            now: Returns the local time, for the schedule.
            notify: Is called with a file's name and a message for every event.
        """
        self.folder, self.config = folder, folder.config
        self.stability = StabilityTracker(folder.config.hold_s, clock=clock)
        self._store, self._queue, self._inspector = store, queue, inspector
        self._retry_policy = retry_policy or RetryPolicy()
        self._is_stopped, self._notify = is_stopped, notify
        self._options = options_to_json(folder.config.options)
        self._notified: set[str] = set()
        self._index = FileIndex(store.files(folder.id))
        self._jobs = JobTracker(
            folder, store, queue, self._index, retry_policy=self._retry_policy, now=now, notify=notify
        )

    def scan(self) -> ScanResult:
        """Scan the folder once, and validate the files that are stable."""
        result = scan(self.config, excluded=self._list_excluded())
        result.missing = result.missing or find_missing_mount(self.folder.mount, self.config.path)
        self._store.set_trouble(self.folder.id, result.missing or self._jobs.destination_trouble)
        if result.missing:
            return result
        self._update_unusable(result)
        self._update_changed(result)
        self._update_new(result)
        self._report_passed_over(result)
        for file in [*self._index.all(FileState.STABLE), *self._list_retries()]:
            if self._is_stopped():
                break
            if file.name in result.files:
                self._validate(file, result.files[file.name])
        return result

    def follow_jobs(self) -> None:
        """Follow the jobs of the files, and add those that are due."""
        self._jobs.update()

    @property
    def is_retry_due(self) -> bool:
        """Return True if the validation of a file is to be retried now."""
        return bool(self._list_retries())

    @property
    def open_jobs(self) -> int:
        """Count the files whose jobs have not ended."""
        return len(self._index.all(FileState.QUEUED))

    @property
    def unstable(self) -> int:
        """Count the files that are not stable yet."""
        return len(self._index.all(FileState.SEEN))

    @property
    def waiting(self) -> int:
        """Count the files that have no job yet."""
        return len(self._index.all(*_WAITING))

    @property
    def retried(self) -> int:
        """Count the files that will be retried."""
        return sum(file.retry_at is not None for file in self._index.all())

    def _list_retries(self) -> list[WatchedFile]:
        """Return the files whose validation failed and is to be retried now."""
        failed = self._index.all(FileState.FAILED)
        return [file for file in failed if file.is_file and file.job is None and self._retry_policy.is_due(file)]

    def _list_excluded(self) -> set[Identity]:
        """Return the folders that are not entered even where a mount shows them in this one."""
        folders = [self._store.data]
        for folder in self._store.list():
            folders += [path for path in (folder.config.destination, folder.config.done_folder) if path is not None]
        return {found for path in folders if (found := identity(path)) is not None}

    def _report_passed_over(self, result: ScanResult) -> None:
        self._store.set_passed_over(self.folder.id, result.passed_over)
        for name in result.passed_over:
            if name not in self._notified and len(self._notified) < _MAX_NOTIFIED:
                self._notified.add(name)
                self._notify(name, "skipped: not a video or audio file by its name; add a pattern to include it")

    def _update_unusable(self, result: ScanResult) -> None:
        """Record entries that can never be enhanced, such as pipes, and remove those that are gone."""
        for name, reason in result.faults.items():
            file = self._index.get(name)
            if file is None or file.reason != reason:
                self._index.add([WatchedFile(name, NO_FILE, NO_FILE, FileState.FAILED, reason=reason, tries=1)])
                self._notify(name, f"not usable: {reason}")
        for file in self._index.all(FileState.FAILED):
            if not file.is_file and file.name not in result.faults:
                self._index.transition(file, FileEvent.GONE)

    def _update_changed(self, result: ScanResult) -> None:
        """Reset the files that have changed, and remove those that are gone."""
        for file in self._index.all():
            seen = result.files.get(file.name)
            if not file.is_file:
                continue
            if seen is None:
                if file.state not in (FileState.QUEUED, FileState.DONE):
                    self._index.transition(file, FileEvent.GONE)
            # The stability of files that are only seen is measured below, without a row for every new size.
            elif file.state is not FileState.SEEN and not file.is_unchanged(seen.size, seen.mtime_ns):
                self._reset(file, seen)

    def _reset(self, file: WatchedFile, seen: SeenFile) -> None:
        """Treat a file that has changed as a new one."""
        if file.state is FileState.QUEUED:
            assert file.job is not None
            with suppress(JobNotFoundError, JobStateError):
                self._queue.cancel(file.job)
            self._notify(file.name, "changed; processing it again")
        # A file that is done may only have been touched: its content and result are kept until the content is known.
        is_done = file.state is FileState.DONE
        kept = {"digest": file.digest, "target": file.target} if is_done else {}
        self._transition(file, FileEvent.CHANGED, size=seen.size, mtime_ns=seen.mtime_ns, **kept)

    def _update_new(self, result: ScanResult) -> None:
        """Add new files, and mark those that are stable."""
        new = [file for name, file in result.files.items() if name not in self._index]
        self._index.add(WatchedFile(file.name, file.size, file.mtime_ns) for file in new)
        stable = self.stability.update(result, [file.name for file in self._index.all(FileState.SEEN)])
        if not stable:
            return
        with self._store.database.transaction(durable=False):
            for seen in stable:
                file = self._index.get(seen.name)
                assert file is not None
                self._index.transition(file, FileEvent.SETTLED, size=seen.size, mtime_ns=seen.mtime_ns)

    def _validate(self, file: WatchedFile, seen: SeenFile) -> None:
        """Check a stable file, identify its content, and let it wait for its job."""
        try:
            if self._index.table.is_result(mark_content(seen.path)) and _is_unchanged(seen):
                self._transition(file, FileEvent.CONTENT_OUTPUT)
                return
            suffix = self._inspector.inspect(
                seen.path, self.config.options, is_declared=seen.sidecar is not None, is_cancelled=self._is_stopped
            )
            digest = digest_file(seen.path, is_cancelled=self._is_stopped)
        except UnreadableError as error:
            if not _is_unchanged(seen):
                self._reset(file, seen)
                return
            tries, reason = file.tries + 1, str(error)
            retry_at = self._retry_policy.retry_at(tries)
            self._transition(file, FileEvent.UNREADABLE, reason=reason, tries=tries, retry_at=retry_at)
            self._notify(file.name, f"not usable: {reason}")
            return
        except CancelledError:
            return
        if not _is_unchanged(seen):
            self._reset(file, seen)
            return
        with self._store.database.transaction():
            self._identify(file, digest, suffix)

    def _identify(self, file: WatchedFile, digest: str, suffix: str) -> None:
        """Find out whether the content of a file is new; inside a transaction."""
        if self._index.table.is_result(digest):
            self._transition(file, FileEvent.CONTENT_OUTPUT, digest=digest)
            return
        name, is_new = self._index.table.claim_content(digest, self._options, file.name)
        if is_new:
            self._transition(file, FileEvent.CONTENT_NEW, digest=digest, target=self._reserve(file.name, suffix))
        elif name == file.name:
            # It was only touched, or put back.
            target = file.target if file.digest == digest else None
            self._transition(file, FileEvent.CONTENT_DONE, digest=digest, target=target)
        else:
            self._transition(file, FileEvent.CONTENT_DUPLICATE, digest=digest, same_as=name)
            duplicate = f"same content as {show_name(name)}; it is not processed again"
            self._store.database.after_commit(lambda: self._notify(file.name, duplicate))

    def _transition(self, file: WatchedFile, event: FileEvent, **changes: Any) -> None:
        """Apply an event after which nothing of an earlier job or failure is kept."""
        cleared = WatchedFile(file.name, file.size, file.mtime_ns)
        columns = ("digest", "job", "target", "same_as", "reason", "tries", "retry_at", "held")
        self._index.transition(file, event, **{**{name: getattr(cleared, name) for name in columns}, **changes})

    def _reserve(self, name: str, suffix: str) -> Path:
        number = 1
        while True:
            target = self.config.destination / result_name(name, suffix, number)
            if not os.path.lexists(target) and self._index.table.reserve(target):
                return target
            number += 1


def _is_unchanged(file: SeenFile) -> bool:
    return is_stat(file.path, file.size, file.mtime_ns)
