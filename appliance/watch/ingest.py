"""Takes the files of one folder: from found to settled to checked, by what they contain, to a job or a reason.

Everything that must survive a restart is in the ledger; what is only here (how long a file has been left alone) is
found out again.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from appliance.jobs.errors import JobNotFoundError, JobStateError
from appliance.jobs.job import options_to_json
from appliance.jobs.queue import JobQueue
from appliance.watch.errors import UnreadableError
from appliance.watch.file_index import KnownFiles, digest_file, find_missing_mount, is_stat, mark_content
from appliance.watch.folder import FileState, WatchedFile, WatchFolder
from appliance.watch.integrity_process import Inspector
from appliance.watch.job_tracker import Following, Patience, Tell
from appliance.watch.path_rules import identity
from appliance.watch.scan import Identity, Look, SeenFile, look_at, result_name, show_name
from appliance.watch.stability import Settling
from appliance.watch.store import FolderStore
from runtime.errors import CancelledError

_NO_FILE: Final = -1
_MOST_TOLD: Final = 1000


class Taking:
    """The files of one folder; used by one thread."""

    def __init__(
        self,
        folder: WatchFolder,
        store: FolderStore,
        queue: JobQueue,
        inspector: Inspector,
        *,
        patience: Patience | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
        tell: Tell = lambda *_: None,
    ) -> None:
        """Begin where the ledger says that it was.

        Args:
            folder: The folder.
            store: Where the ledger is.
            queue: Where the jobs go.
            inspector: Looks into files.
            patience: How often what failed is tried.
            is_stopped: Ends a look early.
            clock: Measures the hold time.
            now: The local time, for the schedule.
            tell: Is told of what happens to a file, in words.
        """
        self.folder, self.wish = folder, folder.wish
        self.settling = Settling(folder.wish.hold_s, clock=clock)
        self._store, self._queue, self._inspector = store, queue, inspector
        self._patience = patience or Patience()
        self._is_stopped, self._tell = is_stopped, tell
        self._options = options_to_json(folder.wish.options)
        self._passed_over: set[str] = set()
        self._known = KnownFiles(folder, store.ledger(folder.id))
        self._jobs = Following(folder, store, queue, self._known, patience=self._patience, now=now, tell=tell)

    def look(self) -> Look:
        """Look at the folder once, and take what is settled."""
        look = look_at(self.wish, never=self._never())
        look.missing = look.missing or find_missing_mount(self.folder.mount, self.wish.path)
        self._store.set_trouble(self.folder.id, look.missing or self._jobs.destination_trouble)
        if look.missing:
            return look
        self._note_faults(look)
        self._note_changes(look)
        settled = self.settling.update(look, ignore=self._known)
        self._note_seen(look)
        for file in settled:
            if self._is_stopped():
                return look
            self._take(file)
        for known in self._unread():
            if known.name in look.files and not self._is_stopped():
                self._take(look.files[known.name])
        self._note_seen(look)
        return look

    def follow(self) -> None:
        """See what became of the jobs, and make those that are due."""
        self._jobs.follow()

    @property
    def is_retry_due(self) -> bool:
        """Return whether a file that could not be read shall be looked into again now."""
        return bool(self._unread())

    @property
    def open_jobs(self) -> int:
        """Count the files whose jobs have not ended."""
        return len(self._known.all(FileState.QUEUED))

    @property
    def waiting(self) -> int:
        """Count the files that wait to be left alone, or for their time of the day."""
        return self.settling.waiting + len(self._known.all(FileState.WAITING))

    @property
    def retried(self) -> int:
        """Count the files that will be tried again."""
        return sum(known.retry_at is not None for known in self._known.all())

    def _unread(self) -> list[WatchedFile]:
        """Return the files that could not be read and shall be tried again now."""
        broken = self._known.all(FileState.BROKEN)
        return [known for known in broken if known.job is None and self._patience.is_due(known)]

    def _never(self) -> set[Identity]:
        """Return the folders that are not entered even where a mount shows them in this one."""
        places = [self._store.data]
        for folder in self._store.list():
            places += [place for place in (folder.wish.destination, folder.wish.done_folder) if place is not None]
        return {found for place in places if (found := identity(place)) is not None}

    def _note_seen(self, look: Look) -> None:
        """Say which files are not left alone yet, and which are passed over for their names."""
        self._store.set_seen(self.folder.id, settling=self.settling.waiting, passed_over=look.passed_over)
        for name in look.passed_over:
            if name not in self._passed_over and len(self._passed_over) < _MOST_TOLD:
                self._passed_over.add(name)
                self._tell(name, "passed over: not a name of a film or a recording; add a pattern to include it")

    def _note_faults(self, look: Look) -> None:
        for name, reason in look.faults.items():
            known = self._known.get(name)
            if known is None or known.reason != reason:
                self._known.put(WatchedFile(name, _NO_FILE, _NO_FILE, FileState.BROKEN, reason=reason, tries=1))
                self._tell(name, f"not usable: {reason}")
        for known in self._known.all(FileState.BROKEN):
            if known.size == _NO_FILE and known.name not in look.faults:
                self._known.forget(known)

    def _note_changes(self, look: Look) -> None:
        """Take back what was decided of files that are gone or have changed since."""
        for known in self._known.all():
            file = look.files.get(known.name)
            if known.size == _NO_FILE or (file is not None and _is_same(file, known)):
                continue
            if known.state is FileState.QUEUED:
                if file is not None:
                    self._withdraw(known)
            elif known.state is FileState.DONE:
                if file is not None:
                    # Kept in the ledger until the new content is known: it may only have been touched.
                    self._known.overlook(known)
            else:
                if known.state in (FileState.WAITING, FileState.BROKEN):
                    self._known.release(known)
                self._known.forget(known)

    def _withdraw(self, known: WatchedFile) -> None:
        """Cancel the job of a file that has changed since."""
        assert known.job is not None
        with suppress(JobNotFoundError, JobStateError):
            self._queue.cancel(known.job)
        self._tell(known.name, "changed; it is taken anew")
        self._known.release(known)
        self._known.forget(known)

    def _take(self, file: SeenFile) -> None:
        """Check a settled file, find out whether its content is known, and let it wait for its job."""
        before = self._known.ledger.get(file.name)
        try:
            is_result = self._known.ledger.is_result(mark_content(file.path))
            if is_result and _is_unchanged(file):
                self._known.put(WatchedFile(file.name, file.size, file.mtime_ns, FileState.OURS))
                return
            suffix = self._inspector.inspect(
                file.path, self.wish.options, is_declared=file.sidecar is not None, is_cancelled=self._is_stopped
            )
            digest = digest_file(file.path, is_cancelled=self._is_stopped)
        except UnreadableError as error:
            if _is_unchanged(file):
                self._break(file, str(error), before)
            return
        except CancelledError:
            return
        if not _is_unchanged(file):
            return  # it is waited for again
        with self._store.database.transaction():
            taken = self._identify(file, digest, suffix, before)
            self._known.ledger.put(taken)
        self._known.note(taken)
        if taken.state is FileState.SAME:
            self._tell(file.name, f"same as {show_name(taken.same_as or '')}; it is not done twice")

    def _identify(self, file: SeenFile, digest: str, suffix: str, before: WatchedFile | None) -> WatchedFile:
        new = WatchedFile(file.name, file.size, file.mtime_ns, FileState.WAITING, digest=digest)
        if self._known.ledger.is_result(digest):
            return replace(new, state=FileState.OURS)
        name, is_new = self._known.ledger.claim_content(digest, self._options, file.name)
        if is_new:
            return replace(new, target=self._reserve(file.name, suffix))
        if name != file.name:
            return replace(new, state=FileState.SAME, same_as=name)
        if before is not None and before.digest == digest and before.state is not FileState.DONE:
            return replace(new, target=before.target or self._reserve(file.name, suffix))
        # It stands for this content already, and was only touched, or put back.
        target = before.target if before is not None and before.digest == digest else None
        return replace(new, state=FileState.DONE, target=target)

    def _reserve(self, name: str, suffix: str) -> Path:
        number = 1
        while True:
            target = self.wish.destination / result_name(name, suffix, number)
            if not os.path.lexists(target) and self._known.ledger.reserve(target):
                return target
            number += 1

    def _break(self, file: SeenFile, reason: str, before: WatchedFile | None) -> None:
        tries = 1
        if before is not None and before.state is FileState.BROKEN and _is_same(file, before):
            tries += before.tries
        self._known.put(
            WatchedFile(
                file.name,
                file.size,
                file.mtime_ns,
                FileState.BROKEN,
                reason=reason,
                tries=tries,
                retry_at=self._patience.retry_at(tries),
            )
        )
        self._tell(file.name, f"not usable: {reason}")


def _is_same(file: SeenFile, known: WatchedFile) -> bool:
    return (file.size, file.mtime_ns) == (known.size, known.mtime_ns)


def _is_unchanged(file: SeenFile) -> bool:
    return is_stat(file.path, file.size, file.mtime_ns)
