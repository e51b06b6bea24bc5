"""Restores a backup: unpacks and checks it next to the existing data, and only then replaces them."""

import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path

from appliance.console import format_bytes
from appliance.maintenance.backup import DATABASE, SETTINGS, Manifest, Summary, extract, read_manifest
from appliance.maintenance.errors import ArchiveError, BackupError
from appliance.store.data_dir import database_path, open_data_directory
from appliance.store.migrations import list_migrations


def restore(archive: Path, data: Path, *, replace: bool = False) -> tuple[Summary, Manifest]:
    """Restore a backup.

    Args:
        archive: The backup.
        data: The data directory, which need not exist; no server may be using it.
        replace: Replace an existing database; it is kept with settings and secrets in the folder `backups`.

    Raises:
        ArchiveError: The file is not a backup, damaged, unsafe, or from a newer version; nothing was changed.
        BackupError: The directory has a database and `replace` is not set, or it cannot be written.
        DirectoryInUseError: A server is using the directory; nothing was changed.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            manifest = read_manifest(tar)
            _check_version(archive, manifest.schema_version)
            with open_data_directory(data) as place:
                if database_path(place).exists() and not replace:
                    raise BackupError(
                        f"{place} already has a database; restore into another directory, or use --replace "
                        f"(the current database is then kept in {place / 'backups'})"
                    )
                _check_free_space(place, manifest)
                with tempfile.TemporaryDirectory(prefix=".restore-", dir=place) as scratch:
                    extract(tar, manifest, Path(scratch))
                    _check_database(archive, Path(scratch) / DATABASE)
                    _put_in_place(manifest, Path(scratch), place)
    except (tarfile.TarError, EOFError, UnicodeError, ValueError) as error:
        raise ArchiveError(f"{archive} is not a Relume backup, or is damaged: {error}") from error
    except (ArchiveError, BackupError):
        raise
    except OSError as error:
        raise BackupError(f"cannot restore {archive} to {data}: {error.strerror or error}") from error
    size = sum(entry.size for entry in manifest.files)
    return Summary(data, len(manifest.files), size), manifest


def _check_version(archive: Path, version: int) -> None:
    newest = max((migration.number for migration in list_migrations()), default=0)
    if version > newest:
        raise ArchiveError(
            f"{archive} is from a newer Relume (database version {version}, supported up to {newest}); "
            "install that version first"
        )


def _check_free_space(data: Path, manifest: Manifest) -> None:
    needed, free = sum(entry.size for entry in manifest.files), shutil.disk_usage(data).free
    if needed > free:
        raise BackupError(f"not enough disk space in {data}: {format_bytes(needed)} needed, {format_bytes(free)} free")


def _check_database(archive: Path, path: Path) -> None:
    """Check the database itself, whatever the manifest claims."""
    if not path.is_file():
        raise ArchiveError(f"{archive} has no database; the backup is incomplete")
    try:
        with closing(sqlite3.connect(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            state = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise ArchiveError(f"the database in {archive} is damaged: {error}") from error
    if state != "ok":
        raise ArchiveError(f"the database in {archive} is damaged: {state}")
    _check_version(archive, version)


def _put_in_place(manifest: Manifest, scratch: Path, data: Path) -> None:
    """Move the unpacked files into the directory, the database last: until then the old state is intact."""
    _keep_old(data)
    ordered = sorted(manifest.files, key=lambda entry: (entry.name == DATABASE, entry.name))
    for entry in ordered:
        target = data / entry.name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if entry.name == DATABASE:
            # The write-ahead log of the old database must not be applied to the new one.
            for ending in ("-wal", "-shm"):
                target.with_name(target.name + ending).unlink(missing_ok=True)
        os.replace(scratch / entry.name, target)
    handle = os.open(data, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keep_old(data: Path) -> None:
    """Keep the old database, settings and secrets in the backups folder."""
    if not database_path(data).exists():
        return
    kept = data / "backups" / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}"
    kept.mkdir(parents=True, mode=0o700)
    with closing(sqlite3.connect(database_path(data))) as old, closing(sqlite3.connect(kept / DATABASE)) as copy:
        old.backup(copy)
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if (data / SETTINGS).is_file():
        shutil.copy2(data / SETTINGS, kept / SETTINGS)
    shutil.copytree(data / "secrets", kept / "secrets", symlinks=True)
