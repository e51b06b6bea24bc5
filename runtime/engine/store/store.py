"""The store as those see it who use engines: find one that is whole, or ask for it."""

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
from runtime.engine.device import EngineDevice, Flavour, detect_device
from runtime.engine.store.key import EngineKey, EngineRequest, make_key
from runtime.engine.store.layout import (
    ENTRY,
    SETBACK,
    EngineEntry,
    Setback,
    SetbackKind,
    Shelves,
    Wish,
    list_names,
    move_folder,
    request_of,
)
from runtime.errors import EngineStoreError
from runtime.file_lock import FileLock

logger = logging.getLogger(__name__)

LookAtDevice = Callable[[Flavour], EngineDevice]


@dataclass(slots=True)
class StoredEngine(Closing):
    """An engine that was whole when it was handed out; it is not cleared away before this is closed."""

    path: Path
    entry: EngineEntry
    _use: FileLock

    def close(self) -> None:
        """Say that the engine is not used any more."""
        self._use.close()


class EngineStore:
    """The engines in a folder, which many processes may share; nothing is made in it before something is wanted."""

    def __init__(self, folder: Path, *, look: LookAtDevice = detect_device) -> None:
        self.shelves = Shelves(folder)
        self._look = look

    def key(self, request: EngineRequest) -> EngineKey:
        """Return the key of a request on this device.

        Raises:
            EngineStoreError: The flavour's library or device is missing here.
        """
        return make_key(request, self._look(request.flavour))

    def find(self, request: EngineRequest) -> StoredEngine | None:
        """Return the engine of a request, its SHA-256 checked and its use noted; None where there is none.

        An engine that is not as it was built goes into quarantine, and is asked for again.

        Raises:
            EngineStoreError: The store cannot be read; or the flavour's library or device is missing here.
        """
        key = self.key(request)
        folder = self.shelves.ready / key.name
        try:
            entry = EngineEntry.read(folder / ENTRY)
            path = folder / entry.file.path
            # The lock comes first: what is looked at cannot be cleared away before it is used.
            use = FileLock.try_existing(path, shared=True)
            fault = find_fault(folder, key.digest)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineStoreError(f"the engine in {folder} cannot be read: {error.strerror}") from error
        except EngineStoreError as error:
            use, fault = None, str(error)
        if use is not None and not fault:
            _note_use(folder)
            return StoredEngine(path, entry, use)
        if use is not None:
            use.close()
        if fault:
            self._quarantine(key, request.source)
        return None

    def want(self, request: EngineRequest, *, again: bool = False) -> bool:
        """Write down that an engine is to be built.

        Args:
            request: What is wanted.
            again: Also where there is one, or where building it has failed before.

        Returns:
            Whether it is written down now; a wish that cannot be is no reason for a job to fail.
        """
        try:
            key = self.key(request)
            if not again and ((self.shelves.ready / key.name / ENTRY).exists() or self.setback(key) is not None):
                return False
            if again or not self.shelves.wish(key.name).exists():
                self.shelves.prepare()
                write_durably(self.shelves.wish(key.name), Wish(request=request, again=again).dump())
        except (OSError, EngineStoreError) as error:
            logger.warning("engine for model %s cannot be asked for: %s", request.model, error)
            return False
        return True

    def forget_wish(self, name: str) -> None:
        """Take a wish back."""
        remove_durably(self.shelves.wish(name))

    def wishes(self) -> list[Wish]:
        """Return what is to be built, the oldest wish first."""
        found = []
        for path in self.shelves.wanted.glob("*.json"):
            try:
                found.append((path.stat().st_mtime, Wish.read(path)))
            except FileNotFoundError:
                continue
            except EngineStoreError as error:
                logger.warning("%s; it is removed", error)
                remove_durably(path)
        return [wish for _, wish in sorted(found, key=lambda pair: pair[0])]

    def setback(self, key: EngineKey) -> Setback | None:
        """Tell why building an engine failed; None where it did not, or where only the file was damaged."""
        try:
            setback = Setback.read(self.shelves.quarantine / key.name / SETBACK)
        except (FileNotFoundError, EngineStoreError):
            return None
        return None if setback.kind is SetbackKind.DAMAGED else setback

    def renew(self) -> list[str]:
        """Ask for every engine whose device, driver or library changed since it was built; give their names."""
        asked = []
        for name in list_names(self.shelves.ready):
            try:
                entry = EngineEntry.read(self.shelves.ready / name / ENTRY)
                request = request_of(entry.parts, entry.source)
                if self.key(request).digest != entry.digest and request.source.is_file() and self.want(request):
                    asked.append(name)
            except (FileNotFoundError, EngineStoreError):
                continue
        return asked

    def _quarantine(self, key: EngineKey, source: Path) -> None:
        """Take a damaged engine out and ask for it again; whoever holds the key's lock at this moment replaces it."""
        folder = self.shelves.ready / key.name
        try:
            self.shelves.prepare()
            lock = FileLock.try_exclusive(self.shelves.lock(key.name))
            if lock is None:
                return
            with lock:
                # Another process may have set it aside, and yet another built it again, since it was looked at.
                fault = find_fault(folder, key.digest)
                if not fault:
                    return
                logger.warning("engine %s goes into quarantine: %s", key.name, fault)
                setback = Setback(
                    kind=SetbackKind.DAMAGED, reason=fault, at=time.time(), source=source, parts=key.parts
                )
                write_durably(folder / SETBACK, setback.dump())
                move_folder(folder, self.shelves.quarantine / key.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise EngineStoreError(f"the damaged engine {folder} cannot be set aside: {error.strerror}") from error
        self.want(request_of(key.parts, source))


def find_fault(folder: Path, digest: str) -> str:
    """Tell what is wrong with a ready engine: empty where its file is as it was built and its key is the one expected.

    Raises:
        FileNotFoundError: There is no engine.
        OSError: It cannot be read.
    """
    try:
        entry = EngineEntry.read(folder / ENTRY)
    except EngineStoreError as error:
        return str(error)
    if entry.digest != digest:
        return f"its manifest is of the key {entry.digest[:12]}, expected {digest[:12]}"
    path = folder / entry.file.path
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{path.name} is missing" if folder.exists() else ""
    if found != entry.file.sha256:
        return f"{path.name} changed on the disk: its SHA-256 is {found[:12]}..., built as {entry.file.sha256[:12]}..."
    return ""


def _note_use(folder: Path) -> None:
    """Note that an engine was used now: the time of its manifest. One that cannot be noted is used all the same."""
    with suppress(OSError):
        os.utime(folder / ENTRY)
