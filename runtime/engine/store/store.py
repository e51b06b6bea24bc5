"""The engine store for its users: find an intact engine, or request a build."""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.atomic_files import remove_durably, write_durably
from runtime.closing import Closing
from runtime.engine.device import EngineDevice, EngineType, detect_device
from runtime.engine.store.key import EngineKey, EngineRequest, make_key
from runtime.engine.store.layout import (
    ENTRY,
    FAILURE,
    BuildFailure,
    BuildRequest,
    EngineEntry,
    FailureKind,
    StoreLayout,
    list_names,
    move_folder,
    request_of,
)
from runtime.errors import EngineStoreError
from runtime.file_lock import FileLock

logger = logging.getLogger(__name__)

DetectDevice = Callable[[EngineType], EngineDevice]


@dataclass(slots=True)
class StoredEngine(Closing):
    """An engine that is in use: intact when it was opened, and not pruned before this is closed."""

    path: Path
    entry: EngineEntry
    _use: FileLock

    def close(self) -> None:
        """Release the engine."""
        self._use.close()


class EngineStore:
    """The engines in a folder, which processes may share; nothing is created in it before the first request."""

    def __init__(self, folder: Path, *, detect: DetectDevice = detect_device) -> None:
        self.layout = StoreLayout(folder)
        self._detect = detect

    def key(self, request: EngineRequest) -> EngineKey:
        """Return the key of a request on this device.

        Raises:
            EngineStoreError: The library or device of the engine type is missing here.
        """
        return make_key(request, self._detect(request.engine_type))

    def find(self, request: EngineRequest) -> StoredEngine | None:
        """Return the engine of a request, its SHA-256 checked and its last use updated; None where there is none.

        An engine that changed since it was built is quarantined, and its build requested again.

        Raises:
            EngineStoreError: The store cannot be read; or the library or device of the engine type is missing here.
        """
        key = self.key(request)
        folder = self.layout.ready / key.name
        try:
            entry = EngineEntry.read(folder / ENTRY)
            path = folder / entry.file.path
            # The lock comes first: an engine that is being checked cannot be pruned before it is used.
            use = FileLock.try_existing(path, shared=True)
            defect = find_defect(folder, key.digest)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineStoreError(f"the engine in {folder} cannot be read: {error.strerror}") from error
        except EngineStoreError as error:
            use, defect = None, str(error)
        if use is not None and not defect:
            _touch(folder)
            return StoredEngine(path, entry, use)
        if use is not None:
            use.close()
        if defect:
            self._quarantine(key, request.source)
        return None

    def request_build(self, request: EngineRequest, *, again: bool = False) -> bool:
        """Request the build of an engine.

        Args:
            request: The engine.
            again: Build it even if there is one, or if its build failed before.

        Returns:
            Whether the request is stored; a request that cannot be stored does not fail the job.
        """
        try:
            key = self.key(request)
            if not again and ((self.layout.ready / key.name / ENTRY).exists() or self.build_failure(key) is not None):
                return False
            if again or not self.layout.request_file(key.name).exists():
                self.layout.prepare()
                write_durably(self.layout.request_file(key.name), BuildRequest(request=request, again=again).dump())
        except (OSError, EngineStoreError) as error:
            logger.warning("the engine for model %s cannot be requested: %s", request.model, error)
            return False
        return True

    def withdraw_request(self, name: str) -> None:
        """Remove a build request."""
        remove_durably(self.layout.request_file(name))

    def build_requests(self) -> list[BuildRequest]:
        """Return the build requests, the oldest first."""
        found = []
        for path in self.layout.requests.glob("*.json"):
            try:
                found.append((path.stat().st_mtime, BuildRequest.read(path)))
            except FileNotFoundError:
                continue
            except EngineStoreError as error:
                logger.warning("%s; it is removed", error)
                remove_durably(path)
        return [request for _, request in sorted(found, key=lambda pair: pair[0])]

    def build_failure(self, key: EngineKey) -> BuildFailure | None:
        """Return the failure of an engine's build; None where it did not fail, or where only the file was damaged."""
        try:
            failure = BuildFailure.read(self.layout.quarantine / key.name / FAILURE)
        except (FileNotFoundError, EngineStoreError):
            return None
        return None if failure.kind is FailureKind.DAMAGED else failure

    def renew(self) -> list[str]:
        """Request every engine whose device, driver or library changed since it was built; return their names."""
        requested = []
        for name in list_names(self.layout.ready):
            try:
                entry = EngineEntry.read(self.layout.ready / name / ENTRY)
                request = request_of(entry.parts, entry.source)
                if (
                    self.key(request).digest != entry.digest
                    and request.source.is_file()
                    and self.request_build(request)
                ):
                    requested.append(name)
            except (FileNotFoundError, EngineStoreError):
                continue
        return requested

    def _quarantine(self, key: EngineKey, source: Path) -> None:
        """Quarantine a damaged engine and request it again; a process that holds its lock is about to replace it."""
        folder = self.layout.ready / key.name
        try:
            self.layout.prepare()
            lock = FileLock.try_exclusive(self.layout.lock(key.name))
            if lock is None:
                return
            with lock:
                # Since the check, another process may have quarantined it, or even rebuilt it.
                defect = find_defect(folder, key.digest)
                if not defect:
                    return
                logger.warning("engine %s is quarantined: %s", key.name, defect)
                failure = BuildFailure(
                    kind=FailureKind.DAMAGED, reason=defect, at=time.time(), source=source, parts=key.parts
                )
                write_durably(folder / FAILURE, failure.dump())
                move_folder(folder, self.layout.quarantine / key.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise EngineStoreError(f"the damaged engine {folder} cannot be quarantined: {error.strerror}") from error
        self.request_build(request_of(key.parts, source))


def find_defect(folder: Path, digest: str) -> str:
    """Return the defect of a ready engine; empty where its file is intact and its key is the expected one.

    Raises:
        FileNotFoundError: There is no engine.
        OSError: It cannot be read.
    """
    try:
        entry = EngineEntry.read(folder / ENTRY)
    except EngineStoreError as error:
        return str(error)
    if entry.digest != digest:
        return f"its manifest has the key {entry.digest[:12]}, expected {digest[:12]}"
    path = folder / entry.file.path
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{path.name} is missing" if folder.exists() else ""
    if found != entry.file.sha256:
        return f"{path.name} changed on disk: its SHA-256 is {found[:12]}..., expected {entry.file.sha256[:12]}..."
    return ""


def _touch(folder: Path) -> None:
    """Set the time of an engine's last use, which is that of its manifest; a failure does not matter."""
    with suppress(OSError):
        os.utime(folder / ENTRY)
