"""Backups: a tar of plain files that ends with a manifest of their sizes and digests; written and read here."""

import io
import os
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.maintenance.errors import ArchiveError, BackupError
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.errors import DatabaseFullError
from runtime.atomic_files import publish_file
from runtime.version import relume_version

MANIFEST: Final = "manifest.json"
DATABASE: Final = "relume.db"
SETTINGS: Final = "relume.toml"
ALLOWED: Final = frozenset({DATABASE, SETTINGS, "secrets", "jobs", "results", "uploads"})
"""The allowed top-level names of an archive; everything else is rejected."""

_BLOCK_BYTES: Final = 1 << 20
_MAX_MANIFEST_BYTES: Final = 256 << 20


class Entry(BaseModel):
    """One file in a backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=4096)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The contents of a backup; `data` is the path of the data directory, `schema_version` that of the database."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    relume: str
    created_at: str
    data: str
    schema_version: int = Field(ge=0)
    full: bool
    files: tuple[Entry, ...]


class ArchiveWriter:
    """Writes files into a tar and records their digests."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self.entries: list[Entry] = []

    def add(self, path: Path, name: str) -> None:
        """Add a file; skip it if it is not a regular file or no longer exists.

        Raises:
            BackupError: The file was truncated while it was read.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return
        with open(handle, "rb") as file:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                return
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = info.st_size, int(info.st_mtime), 0o600
            reader = _Hashing(file)
            try:
                self._tar.addfile(member, reader)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise BackupError(f"{path} changed while it was being read; run the backup again") from error
        self.entries.append(Entry(name=name, size=info.st_size, sha256=reader.digest.hexdigest()))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and close the tar."""
        data = manifest.model_dump_json(indent=1).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size, member.mode = len(data), 0o600
        self._tar.addfile(member, io.BytesIO(data))
        self._tar.close()


class _Hashing(io.RawIOBase):
    """Computes the digest of what is read through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def read_manifest(tar: tarfile.TarFile) -> Manifest:
    """Read the manifest of an archive, and check that the archive contains exactly the files that it lists.

    Raises:
        ArchiveError: It is not a backup, or not safe to unpack.
    """
    members = list(_members(tar))
    names = [member.name for member in members]
    if not members or names[-1] != MANIFEST or members[-1].size > _MAX_MANIFEST_BYTES:
        raise ArchiveError(f"{_name(tar)} is not a Relume backup, or is truncated: it does not end with a manifest")
    file = tar.extractfile(members[-1])
    assert file is not None
    try:
        manifest = Manifest.model_validate_json(file.read())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArchiveError(f"the manifest of {_name(tar)} cannot be read ({where}: {first['msg']})") from error
    for entry in manifest.files:
        check_name(entry.name, _name(tar))
    if [(entry.name, entry.size) for entry in manifest.files] != [(m.name, m.size) for m in members[:-1]]:
        raise ArchiveError(f"the files in {_name(tar)} do not match its manifest; it was modified or damaged")
    if len(set(names)) != len(names):
        raise ArchiveError(f"{_name(tar)} contains a name twice; it was modified")
    return manifest


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if not member.isreg() or member.issparse():
            raise ArchiveError(
                f"{_name(tar)} contains {member.name!r}, which is not a regular file; a backup has no others"
            )
        yield member


def _name(tar: tarfile.TarFile) -> str:
    return os.fsdecode(tar.name or "the archive")


def check_name(name: str, archive: object) -> None:
    """Reject a name that would be unpacked outside the known folders of the data directory.

    Raises:
        ArchiveError: It would.
    """
    parts = PurePosixPath(name).parts
    plain = "/".join(parts) == name and not name.startswith("/") and "\0" not in name
    if not plain or ".." in parts or parts[0] not in ALLOWED or (len(parts) == 1) != (parts[0] in (DATABASE, SETTINGS)):
        raise ArchiveError(f"{archive} contains the unsafe name {name!r}, which no backup has; do not use this file")


def extract(tar: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    """Unpack an archive into an empty folder and check every digest.

    Raises:
        ArchiveError: A file does not match the manifest.
        OSError: The files cannot be written.
    """
    for entry in manifest.files:
        target = folder / entry.name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source = tar.extractfile(entry.name)
        assert source is not None
        digest = sha256()
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(handle)
        if digest.hexdigest() != entry.sha256:
            raise ArchiveError(f"{entry.name} in {_name(tar)} is damaged; use another backup")


# The small files that the page of a job shows; videos are only in a full backup.
_SMALL_FILES: Final = ("report.json", "thumbnail.jpg", "log.txt")


@dataclass(frozen=True, slots=True)
class Summary:
    """The extent of a written or restored backup."""

    path: Path
    files: int
    size_bytes: int


def back_up(data: Path, target: Path, *, full: bool = False) -> Summary:
    """Write a backup; the file appears only when it is complete, and is readable by its owner alone.

    Args:
        data: The data directory.
        target: The file to write; it must not exist.
        full: Include uploads, results and comparison videos.

    Raises:
        BackupError: There is no data directory, or the file cannot be written.
        StoreError: The database cannot be read.
    """
    source = database_path(data)
    if not source.is_file():
        raise BackupError(f"{data} is not a data directory; set the one of the server with --data")
    if os.path.lexists(target):
        raise BackupError(f"{target} already exists; choose another name")
    try:
        # A private folder: in a shared one, others could create the partial file first to read it.
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as scratch:
            copy, partial = Path(scratch) / DATABASE, Path(scratch) / "backup.tar"
            with Database(source) as database:
                database.backup(copy)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(handle, "wb") as file:
                count = _write(ArchiveWriter(file), data, copy, full=full)
            publish_file(partial, target, overwrite=False)
    except BackupError:
        raise
    except DatabaseFullError as error:
        raise BackupError(f"cannot write the backup to {target}: no space left on the disk; free some space") from error
    except OSError as error:
        raise BackupError(f"cannot write the backup to {target}: {error.strerror or error}") from error
    return Summary(target, count, target.stat().st_size)


def _write(writer: ArchiveWriter, data: Path, copy: Path, *, full: bool) -> int:
    with closing(sqlite3.connect(copy)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    writer.add(copy, DATABASE)
    if (data / SETTINGS).is_file():
        writer.add(data / SETTINGS, SETTINGS)
    for path in _files(data, full=full):
        writer.add(path, path.relative_to(data).as_posix())
    writer.finish(
        Manifest(
            relume=relume_version(),
            created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            data=str(data),
            schema_version=version,
            full=full,
            files=tuple(writer.entries),
        )
    )
    return len(writer.entries)


def _files(data: Path, *, full: bool) -> Iterator[Path]:
    """Yield the files of a backup besides the database and the settings."""
    for folder in ("secrets", "jobs", *(("results", "uploads") if full else ())):
        for place, folders, names in os.walk(data / folder):
            # The workspace of an interrupted job is large and can be recreated.
            folders[:] = sorted(name for name in folders if not (folder == "jobs" and name == "work"))
            for name in sorted(names):
                if folder != "jobs" or full or name in _SMALL_FILES:
                    yield Path(place) / name
