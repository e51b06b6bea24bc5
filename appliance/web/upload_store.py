"""Uploaded files: which there are, whose they are, and how much may come.

A file lies in `uploads/` under a random id; its name is only shown. The database knows how many of its bytes are on
the disk for certain: after a crash the upload goes on from there, and anything beyond is written again.
"""

import json
import logging
import os
import shutil
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

from appliance.accounts.credentials import new_id
from appliance.accounts.principal import Principal
from appliance.console import describe_disk_full, format_bytes
from appliance.errors import UploadError, UploadNotFoundError, UploadSpaceError
from appliance.settings import Settings
from appliance.store.database import Database
from appliance.web.upload_probe import probe_upload
from appliance.web.views import clean_file_name
from runtime.media.containers import media_suffixes
from runtime.media.muxer import FORMATS

logger = logging.getLogger(__name__)

_COLUMNS: Final = "id, owner, name, size_bytes, offset_bytes, created_at, finished_at, probe, error, job"
_PROBERS: Final = 3
_PROBERS_A_USER: Final = 2
_GONE: Final = "there is no such upload of yours; it may have expired, so send the file again"
_SILENT_S: Final = 3600.0
"""After so long without a byte an upload holds no room."""
_SOON_BYTES: Final = 64 << 20
_EARLIEST: Final = 1_735_689_600
"""2025: no clock that is right says less."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload; `probe` and `error` are both None until the finished file has been looked into."""

    id: str
    owner: str
    name: str
    size_bytes: int
    offset_bytes: int
    created_at: float
    finished_at: float | None
    probe: dict[str, Any] | None
    error: str | None
    job: str | None


class ProbeQueue:
    """Looks into files, a few at once: users take turns, and none takes every place.

    However many files of one user take long, the next file of another one waits for none of them.
    """

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look
        self._lock = Lock()
        self._waiting: dict[str, deque[str]] = {}
        self._running: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_PROBERS, thread_name_prefix="probe")
        self._closed = False

    def add(self, owner: str, upload_id: str) -> None:
        """Let an upload wait for its turn."""
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(upload_id)
            self._start()

    def close(self) -> None:
        """Wait for what is being looked into; the rest is forgotten."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        for owner, files in list(self._waiting.items()):
            if self._closed or self._running.total() >= _PROBERS:
                return
            if self._running[owner] >= _PROBERS_A_USER:
                continue
            self._running[owner] += 1
            self._threads.submit(self._run, owner, files.popleft())
            del self._waiting[owner]
            if files:
                self._waiting[owner] = files  # behind the others

    def _run(self, owner: str, upload_id: str) -> None:
        try:
            self._look(upload_id)
        finally:
            with self._lock:
                self._running[owner] -= 1
                self._start()


class UploadStore:
    """The uploads of a box."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._probers = ProbeQueue(self._check)
        self.bytes_received = 0

    def path(self, upload: Upload) -> Path:
        """Tell where the file of an upload lies.

        Of its name only the suffix is taken, and only if it is one of a film or a recording: the result gets the same
        container, and some formats are known by it alone.
        """
        bare = self._settings.uploads / upload.id
        suffix = Path(upload.name).suffix.lower()
        if suffix not in FORMATS and (suffix not in media_suffixes() or bare.exists()):
            return bare  # where earlier versions put what they did not write themselves
        return bare.with_suffix(suffix)

    def thumbnail(self, upload_id: str) -> Path:
        """Tell where the small picture of an upload lies, once it was looked into."""
        return self._settings.uploads / f"{upload_id}.jpg"

    def begin(self, caller: Principal, name: str, size_bytes: int) -> Upload:
        """Take on an upload.

        Raises:
            UploadSpaceError: The file is too large, the disk has no room for it, or the user has too many.
            UploadError: The file is empty.
        """
        if size_bytes <= 0:
            raise UploadError("the file is empty; copy it again from where it came from")
        limit = self._settings.upload_limit_bytes
        if size_bytes > limit:
            raise UploadSpaceError(
                f"the file has {format_bytes(size_bytes)}, and this box takes at most {format_bytes(limit)}; "
                "cut it, or put it into a watch folder"
            )
        now, free = time.time(), self._free_bytes()
        upload = Upload(new_id(), caller.id, clean_file_name(name), size_bytes, 0, now, None, None, None, None)
        with self._database.transaction() as connection:
            (there,) = connection.execute(
                "SELECT COUNT(*) FROM uploads WHERE owner = ? AND job IS NULL", (caller.id,)
            ).fetchone()
            if there >= self._settings.open_uploads:
                raise UploadSpaceError(
                    f"you have {there} files here without a job, which is the most; enhance or remove some first"
                )
            # One's own files are to fit beside each other. What others announced counts as far as they soon send it:
            # they could announce anything.
            (coming,) = connection.execute(
                "SELECT COALESCE(SUM(CASE WHEN owner = ?1 THEN size_bytes - offset_bytes WHEN touched_at < ?2 THEN 0 "
                "ELSE MIN(size_bytes - offset_bytes, ?3) END), 0) FROM uploads WHERE finished_at IS NULL",
                (caller.id, now - _SILENT_S, _SOON_BYTES),
            ).fetchone()
            self._check_room(size_bytes + coming, free)
            connection.execute(
                "INSERT INTO uploads (id, owner, name, size_bytes, created_at, touched_at) VALUES (?, ?, ?, ?, ?, ?)",
                (upload.id, caller.id, upload.name, size_bytes, now, now),
            )
        with suppress(OSError):  # made again where it is missing when bytes come
            self.path(upload).touch(mode=0o600)
        return upload

    def check_room(self, more_bytes: int) -> None:
        """Refuse to write so many bytes more if they would touch the disk's reserve.

        Raises:
            UploadSpaceError: They would.
        """
        self._check_room(more_bytes, self._free_bytes())

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._settings.uploads).free - self._settings.disk_reserve_bytes

    def _check_room(self, more_bytes: int, free: int) -> None:
        if more_bytes > free:
            reserve = self._settings.disk_reserve_bytes
            raise UploadSpaceError(describe_disk_full(more_bytes, free + reserve, reserve), code="disk_full_upload")

    def get(self, upload_id: str, owner: str) -> Upload:
        """Return an upload of a user.

        Raises:
            UploadNotFoundError: This user has no such upload.
        """
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM uploads WHERE id = ? AND owner = ?", (upload_id, owner)
            ).fetchone()
        if row is None:
            raise UploadNotFoundError(_GONE)
        return _upload(row)

    def waiting(self, owner: str) -> list[Upload]:
        """Return the finished uploads of a user that have no job yet, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM uploads WHERE owner = ? AND finished_at IS NOT NULL AND job IS NULL "
                "ORDER BY finished_at",
                (owner,),
            ).fetchall()
        return [_upload(row) for row in rows]

    def advance(self, upload: Upload, offset_bytes: int) -> None:
        """Note that so many bytes are on the disk for certain; with the last one the file is looked into.

        Raises:
            UploadNotFoundError: The upload was removed, with its owner perhaps; so is its file.
        """
        now = time.time()
        finished = offset_bytes == upload.size_bytes
        with self._database.transaction() as connection:
            known = connection.execute(
                "UPDATE uploads SET offset_bytes = ?, touched_at = ?, finished_at = ? WHERE id = ?",
                (offset_bytes, now, now if finished else None, upload.id),
            ).rowcount
        if not known:
            self._unlink(upload.id)
            raise UploadNotFoundError(_GONE)
        if finished:
            self._probers.add(upload.owner, upload.id)

    def remove(self, upload: Upload) -> None:
        """Remove an upload that has no job.

        Raises:
            UploadNotFoundError: It is gone already.
            UploadError: A job needs it.
        """
        with self._database.transaction() as connection:
            gone = connection.execute("DELETE FROM uploads WHERE id = ? AND job IS NULL", (upload.id,)).rowcount
        if not gone:
            self.get(upload.id, upload.owner)
            raise UploadError(f"{upload.name} belongs to a job; remove the job")
        self._unlink(upload.id)

    def get_checked(self, upload_id: str, owner: str) -> Upload | None:
        """Return a finished upload that can be enhanced, None while it is still looked into.

        Raises:
            UploadNotFoundError: This user has no such upload.
            UploadError: It is not complete, or is nothing to enhance.
        """
        upload = self.get(upload_id, owner)
        if upload.finished_at is None:
            raise UploadError(f"{upload.name} has not arrived completely; let the upload end first")
        if upload.error is not None:
            raise UploadError(upload.error)
        return upload if upload.probe is not None else None

    def assign(self, upload: Upload, job_id: str) -> None:
        """Give an upload to a job: it leaves the list and goes with the job.

        Raises:
            UploadError: It has a job.
        """
        with self._database.transaction() as connection:
            taken = connection.execute(
                "UPDATE uploads SET job = ? WHERE id = ? AND job IS NULL", (job_id, upload.id)
            ).rowcount
            if not taken:
                raise UploadError(f"{upload.name} has a job already; upload it again for another one")

    def resume(self) -> None:
        """Look into what was finished when the server last ended, before anyone looked."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT owner, id FROM uploads WHERE finished_at IS NOT NULL AND probe IS NULL AND error IS NULL"
            ).fetchall()
        for owner, upload_id in rows:
            self._probers.add(owner, upload_id)

    def tidy(self, busy: frozenset[str] = frozenset()) -> None:
        """Remove uploads that were left for too long, whose job is gone, and files that nothing knows."""
        # Listed first: a file of an upload that begins now has its row before it is there.
        paths = list(self._settings.uploads.iterdir())
        oldest = time.time() - self._settings.upload_days * 86_400
        now = time.time()
        with self._database.transaction() as connection:
            # Noted by a clock that was wrong, as it is on a machine without one until it has asked the network.
            connection.execute(
                "UPDATE uploads SET touched_at = ?1 WHERE touched_at < ?2 OR touched_at > ?1 + 86400", (now, _EARLIEST)
            )
            rows = connection.execute(
                "SELECT id FROM uploads WHERE (job IS NULL AND touched_at < ?) "
                "OR (job IS NOT NULL AND job NOT IN (SELECT id FROM jobs))",
                (oldest,),
            ).fetchall()
            left = [row["id"] for row in rows if row["id"] not in busy]
            connection.executemany("DELETE FROM uploads WHERE id = ?", [(upload_id,) for upload_id in left])
            needed = {
                Path(os.fsdecode(row[0])).name.partition(".")[0]
                for row in connection.execute("SELECT source FROM jobs")
            }
            known = {row[0] for row in connection.execute("SELECT id FROM uploads")} | needed | busy
        for path in paths:
            if path.name.partition(".")[0] not in known:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop looking into files; what is left is done after the next start."""
        self._probers.close()

    def _check(self, upload_id: str) -> None:
        try:
            with self._database.read() as connection:
                row = connection.execute(f"SELECT {_COLUMNS} FROM uploads WHERE id = ?", (upload_id,)).fetchone()
            if row is None:
                return
            upload = _upload(row)
            probe, error = probe_upload(
                self.path(upload),
                upload.name,
                timeout_s=self._settings.probe_timeout_s,
                thumbnail=self.thumbnail(upload_id),
            )
            with self._database.transaction() as connection:
                connection.execute(
                    "UPDATE uploads SET probe = ?, error = ? WHERE id = ?",
                    (None if probe is None else json.dumps(probe), error, upload_id),
                )
            if error is not None:
                # Only what can be enhanced is kept; the list still says why this was not.
                self._unlink(upload_id)
            logger.info("upload %s was looked into: %s", upload_id, error or "ready")
        except Exception:
            logger.exception("upload %s could not be looked into", upload_id)

    def _unlink(self, upload_id: str) -> None:
        for path in self._settings.uploads.glob(f"{upload_id}*"):
            path.unlink(missing_ok=True)


def _upload(row: sqlite3.Row) -> Upload:
    fields = dict(row)
    probe = fields.pop("probe")
    return Upload(**fields, probe=None if probe is None else json.loads(probe))
