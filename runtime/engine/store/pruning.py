"""Clean-up of the store: what nobody needs, then the engines whose last use is longest ago, down to a budget."""

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
    """What was cleared away, and what is left; `kept_in_use` would have gone but is in use."""

    removed: tuple[str, ...]
    removed_bytes: int
    kept_in_use: tuple[str, ...]
    left_bytes: int


@dataclass(frozen=True, slots=True)
class _Shelved:
    folder: Path
    size_bytes: int
    last_used: float


def prune(store: EngineStore, budget_bytes: int) -> Pruned:
    """Clear away what killed builders left, outdated engines and those for other devices, then down to a budget.

    What is in use or being built stays. Quarantine counts, and goes before any ready engine. An engine whose device
    or library is not there at the moment is not outdated by that.

    Args:
        store: The store.
        budget_bytes: What ready engines and quarantine may take.

    Raises:
        EngineStoreError: Something cannot be removed.
    """
    shelves = store.shelves
    removed, kept, freed = [], [], 0
    try:
        clear_litter(store)
        doomed = list(_shelved(shelves.unproven))
        ready = list(_shelved(shelves.ready))
        outdated = [one for one in ready if _is_outdated(store, one.folder)]
        quarantine = sorted(_shelved(shelves.quarantine), key=lambda one: one.last_used)
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
        raise EngineStoreError(f"the engine store {shelves.folder} cannot be cleared: {error.strerror}") from error
    return Pruned(tuple(removed), freed, tuple(kept), sum(one.size_bytes for one in _shelved(shelves.ready)))


def _shelved(shelf: Path) -> Iterator[_Shelved]:
    for name in list_names(shelf):
        folder = shelf / name
        with suppress(FileNotFoundError):
            files = [path.stat() for path in folder.iterdir()]
            used = max((path.st_mtime for path in files), default=0.0)
            with suppress(FileNotFoundError):
                used = (folder / ENTRY).stat().st_mtime
            yield _Shelved(folder, sum(path.st_size for path in files), used)


def _is_outdated(store: EngineStore, folder: Path) -> bool:
    try:
        entry = EngineEntry.read(folder / ENTRY)
        return store.key(request_of(entry.parts, entry.source)).digest != entry.digest
    except (FileNotFoundError, EngineStoreError):
        return False


def _remove(folder: Path) -> bool:
    """Remove an engine's folder; not where the engine is in use."""
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


def clear_litter(store: EngineStore) -> None:
    """Remove what killed processes left: partial engines whose builder is gone, and folders that were half removed."""
    shelves = store.shelves
    for name in list_names(shelves.partial):
        lock = FileLock.try_exclusive(shelves.lock(name))
        if lock is not None:
            with lock:
                remove_folder(shelves.partial / name)
    for shelf in (shelves.ready, shelves.unproven, shelves.partial, shelves.quarantine):
        for path in shelf.glob(".*.gone"):
            shutil.rmtree(path, ignore_errors=True)
