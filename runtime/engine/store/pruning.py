"""Pruning of the store: stale and outdated engines, then the least recently used ones, down to a budget."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.engine.store.build_dir import SUFFIXES
from runtime.engine.store.layout import ENTRY, EngineEntry, list_names, remove_folder, request_of
from runtime.engine.store.store import EngineStore
from runtime.errors import EngineStoreError
from runtime.file_lock import FileLock


@dataclass(frozen=True, slots=True)
class Pruned:
    """The removed engines and the remaining size; those of `kept_in_use` were not removed because they are in use."""

    removed: tuple[str, ...]
    removed_bytes: int
    kept_in_use: tuple[str, ...]
    left_bytes: int


@dataclass(frozen=True, slots=True)
class _StoredFolder:
    folder: Path
    size_bytes: int
    last_used: float


def prune(store: EngineStore, budget_bytes: int) -> Pruned:
    """Remove stale builds, outdated engines and those for other devices, then others down to a budget.

    Engines in use or being built stay. Quarantined ones count, and are removed before any ready one. An engine whose
    device or library is currently missing is not outdated.

    Args:
        store: The store.
        budget_bytes: The size that ready and quarantined engines may have.

    Raises:
        EngineStoreError: A folder cannot be removed.
    """
    layout = store.layout
    removed, kept, freed = [], [], 0
    try:
        remove_stale_builds(store)
        doomed = list(_list_folders(layout.unverified))
        ready = list(_list_folders(layout.ready))
        outdated = [one for one in ready if _is_outdated(store, one.folder)]
        quarantine = sorted(_list_folders(layout.quarantine), key=lambda one: one.last_used)
        current = sorted((one for one in ready if one not in outdated), key=lambda one: one.last_used)
        left = sum(one.size_bytes for one in [*quarantine, *current])
        for one in [*doomed, *outdated, *quarantine, *current]:
            counts = one in quarantine or one in current
            if counts and left <= budget_bytes:
                break
            if not _remove(one.folder):
                kept.append(one.folder.name)
                continue
            removed.append(one.folder.name)
            freed += one.size_bytes
            left -= one.size_bytes if counts else 0
    except OSError as error:
        raise EngineStoreError(f"the engine store {layout.folder} cannot be pruned: {error.strerror}") from error
    return Pruned(tuple(removed), freed, tuple(kept), sum(one.size_bytes for one in _list_folders(layout.ready)))


def _list_folders(parent: Path) -> Iterator[_StoredFolder]:
    for name in list_names(parent):
        folder = parent / name
        with suppress(FileNotFoundError):
            files = [path.stat() for path in folder.iterdir()]
            used = max((path.st_mtime for path in files), default=0.0)
            with suppress(FileNotFoundError):
                used = (folder / ENTRY).stat().st_mtime
            yield _StoredFolder(folder, sum(path.st_size for path in files), used)


def _is_outdated(store: EngineStore, folder: Path) -> bool:
    try:
        entry = EngineEntry.read(folder / ENTRY)
        return store.key(request_of(entry.parts, entry.source)).digest != entry.digest
    except (FileNotFoundError, EngineStoreError):
        return False


def _remove(folder: Path) -> bool:
    """Remove an engine's folder unless the engine is in use; return whether it was removed."""
    engine = next((path for path in folder.iterdir() if path.suffix in SUFFIXES), None)
    if engine is None:
        remove_folder(folder)
        return True
    lock = FileLock.try_existing(engine, shared=False)
    if lock is None:
        return False
    with lock:
        remove_folder(folder)
    return True


def remove_stale_builds(store: EngineStore) -> None:
    """Remove partial engines whose builder was killed, and folders that were half removed."""
    layout = store.layout
    for name in list_names(layout.partial):
        lock = FileLock.try_exclusive(layout.lock(name))
        if lock is not None:
            with lock:
                remove_folder(layout.partial / name)
    for parent in (layout.ready, layout.unverified, layout.partial, layout.quarantine):
        for path in parent.glob(".*.gone"):
            shutil.rmtree(path, ignore_errors=True)
