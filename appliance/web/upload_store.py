"""Uploaded files: their records, owners, quotas and checks.

A file is stored in `uploads/` under a random id; its name is only displayed. The database records how many bytes are
synced to disk: after a crash the upload resumes from there, and anything beyond is overwritten.
"""

import json
import logging
import os
import shutil
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.accounts.credentials import new_id
from appliance.accounts.principal import Principal
from appliance.console import describe_disk_full, format_bytes
from appliance.errors import UploadError, UploadNotFoundError, UploadSpaceError
from appliance.settings import Settings
from appliance.store.database import Database
from appliance.web.upload_probe import ProbeQueue, probe_upload
from appliance.web.views import clean_file_name
from runtime.media.containers import media_suffixes
from runtime.media.muxer import FORMATS

logger = logging.getLogger(__name__)

UPLOADS_PATH: Final = "/api/uploads/"
_COLUMNS: Final = "id, owner, name, size_bytes, offset_bytes, created_at, finished_at, probe, error, job"
_GONE: Final = "upload not found; it may have expired, so upload the file again"
_SILENT_S: Final = 3600.0
"""An upload that has received nothing for this long reserves no disk space."""
_SOON_BYTES: Final = 64 << 20
_EARLIEST: Final = 1_735_689_600
"""Start of 2025: an earlier time comes from a wrong clock."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload; `probe` and `error` are both None until the complete file has been checked."""

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


class UploadStore:
    """The uploads of this server."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._probes = ProbeQueue(self._check)
        self.bytes_received = 0

    def path(self, upload: Upload) -> Path:
        """Return the path of an upload's file.

        Of its name only a video or audio suffix is used: the result gets the same container, and some formats are
        recognised by the suffix alone.
        """
        bare = self._settings.uploads / upload.id
        suffix = Path(upload.name).suffix.lower()
        if suffix not in FORMATS and (suffix not in media_suffixes() or bare.exists()):
            return bare  # as earlier versions stored formats that they did not write
        return bare.with_suffix(suffix)

    def thumbnail(self, upload_id: str) -> Path:
        """Return the path of an upload's thumbnail, which exists once the file has been checked."""
        return self._settings.uploads / f"{upload_id}.jpg"

    def begin(self, caller: Principal, name: str, size_bytes: int) -> Upload:
        """Start an upload.

        Raises:
            UploadSpaceError: The file is too large, the disk is too full, or the user has too many files.
            UploadError: The file is empty.
        """
        if size_bytes <= 0:
            raise UploadError("the file is empty; copy it again from its source")
        limit = self._settings.upload_limit_bytes
        if size_bytes > limit:
            raise UploadSpaceError(
                f"the file has {format_bytes(size_bytes)}, the limit is {format_bytes(limit)}; "
                "split it, or use a watch folder"
            )
        now, free = time.time(), self._free_bytes()
        upload = Upload(new_id(), caller.id, clean_file_name(name), size_bytes, 0, now, None, None, None, None)
        with self._database.transaction() as connection:
            (there,) = connection.execute(
                "SELECT COUNT(*) FROM uploads WHERE owner = ? AND job IS NULL", (caller.id,)
            ).fetchone()
            if there >= self._settings.open_uploads:
                raise UploadSpaceError(
                    f"you have {there} uploaded files without a job, which is the maximum; enhance or remove some first"
                )
            # A user's own uploads must all fit. Of other users' uploads only the part that they will send soon counts:
            # they could announce any size.
            (coming,) = connection.execute(
                "SELECT COALESCE(SUM(CASE WHEN owner = ?1 THEN size_bytes - offset_bytes WHEN touched_at < ?2 THEN 0 "
                "ELSE MIN(size_bytes - offset_bytes, ?3) END), 0) FROM uploads WHERE finished_at IS NULL",
                (caller.id, now - _SILENT_S, _SOON_BYTES),
            ).fetchone()
            self._check_free_space(size_bytes + coming, free)
            connection.execute(
                "INSERT INTO uploads (id, owner, name, size_bytes, created_at, touched_at) VALUES (?, ?, ?, ?, ?, ?)",
                (upload.id, caller.id, upload.name, size_bytes, now, now),
            )
        with suppress(OSError):  # created again if missing when bytes arrive
            self.path(upload).touch(mode=0o600)
        return upload

    def check_free_space(self, more_bytes: int) -> None:
        """Check that more bytes can be written without using the disk reserve.

        Raises:
            UploadSpaceError: They cannot.
        """
        self._check_free_space(more_bytes, self._free_bytes())

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._settings.uploads).free - self._settings.disk_reserve_bytes

    def _check_free_space(self, more_bytes: int, free: int) -> None:
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
        """Return the complete uploads of a user that have no job yet, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM uploads WHERE owner = ? AND finished_at IS NOT NULL AND job IS NULL "
                "ORDER BY finished_at",
                (owner,),
            ).fetchall()
        return [_upload(row) for row in rows]

    def advance(self, upload: Upload, offset_bytes: int) -> None:
        """Record the number of bytes that are synced to disk; a complete file is then checked.

        Raises:
            UploadNotFoundError: The upload was removed, perhaps with its owner; its file is removed too.
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
            self._probes.add(upload.owner, upload.id)

    def remove(self, upload: Upload) -> None:
        """Remove an upload that has no job.

        Raises:
            UploadNotFoundError: It no longer exists.
            UploadError: A job uses it.
        """
        with self._database.transaction() as connection:
            gone = connection.execute("DELETE FROM uploads WHERE id = ? AND job IS NULL", (upload.id,)).rowcount
        if not gone:
            self.get(upload.id, upload.owner)
            raise UploadError(f"{upload.name} belongs to a job; delete the job instead")
        self._unlink(upload.id)

    def get_checked(self, upload_id: str, owner: str) -> Upload | None:
        """Return a complete upload that can be enhanced; None while it is still being checked.

        Raises:
            UploadNotFoundError: This user has no such upload.
            UploadError: It is not complete, or cannot be enhanced.
        """
        upload = self.get(upload_id, owner)
        if upload.finished_at is None:
            raise UploadError(f"the upload of {upload.name} is not complete; wait for it to finish")
        if upload.error is not None:
            raise UploadError(upload.error)
        return upload if upload.probe is not None else None

    def assign(self, upload: Upload, job_id: str) -> None:
        """Assign an upload to a job, with which it will be removed.

        Raises:
            UploadError: It already has a job.
        """
        with self._database.transaction() as connection:
            taken = connection.execute(
                "UPDATE uploads SET job = ? WHERE id = ? AND job IS NULL", (job_id, upload.id)
            ).rowcount
            if not taken:
                raise UploadError(f"{upload.name} already has a job; upload it again for another one")

    def resume_checks(self) -> None:
        """Check the uploads that were complete but not checked when the server stopped."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT owner, id FROM uploads WHERE finished_at IS NOT NULL AND probe IS NULL AND error IS NULL"
            ).fetchall()
        for owner, upload_id in rows:
            self._probes.add(owner, upload_id)

    def clean_up(self, busy: frozenset[str] = frozenset()) -> None:
        """Remove expired uploads, those whose job was deleted, and files without a record."""
        # Listed first: an upload that starts now has its row before its file.
        paths = list(self._settings.uploads.iterdir())
        oldest = time.time() - self._settings.upload_days * 86_400
        now = time.time()
        with self._database.transaction() as connection:
            # From a wrong clock, for example of a machine without a battery-backed one before it has synchronised.
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
        """Stop checking files; the rest are checked after the next start."""
        self._probes.close()

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
                # Only files that can be enhanced are kept; the list still shows the error.
                self._unlink(upload_id)
            logger.info("checked upload %s: %s", upload_id, error or "ready")
        except Exception:
            logger.exception("could not check upload %s", upload_id)

    def _unlink(self, upload_id: str) -> None:
        for path in self._settings.uploads.glob(f"{upload_id}*"):
            path.unlink(missing_ok=True)


def _upload(row: sqlite3.Row) -> Upload:
    fields = dict(row)
    probe = fields.pop("probe")
    return Upload(**fields, probe=None if probe is None else json.loads(probe))
