"""Where one engine is made: its key's lock, an empty folder, and nothing left of it unless it was published."""

import hashlib
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.atomic_files import remove_durably, write_durably
from runtime.closing import Closing
from runtime.engine.device import Flavour
from runtime.engine.store.key import EngineKey
from runtime.engine.store.layout import (
    ENTRY,
    SETBACK,
    EngineEntry,
    EngineFile,
    Proof,
    Setback,
    SetbackKind,
    Shelves,
    move_folder,
    remove_folder,
)
from runtime.file_lock import FileLock

SUFFIXES: Final = (".blob", ".engine")
"""Of an engine's file: OpenVINO's, and TensorRT's of either flavour."""


class Bench(Closing):
    """The place of one build; a context manager that holds the key's lock.

    Waits while another process builds the same engine, and clears away what a killed builder left.

    Raises:
        CancelledError: `stop` was set while it waited.
    """

    def __init__(self, shelves: Shelves, key: EngineKey, source: Path, stop: threading.Event) -> None:
        self._shelves, self._key, self._source = shelves, key, source
        self._lock = FileLock.wait_exclusive(shelves.lock(key.name), stop, holder="builds the same engine")
        self.folder = shelves.partial / key.name
        self._clear()
        self.folder.mkdir(mode=0o700)
        self.engine = self.folder / f"engine{SUFFIXES[key.parts.flavour is not Flavour.OPENVINO]}"
        """Where the builder writes."""

    def publish(self, *, build_time_s: float, proof: Proof | None) -> EngineEntry:
        """Put the engine on its shelf: with a proof among the ready ones, else among those for another device."""
        entry = EngineEntry(
            name=self._key.name,
            digest=self._key.digest,
            parts=self._key.parts,
            source=self._source,
            file=_seal(self.engine),
            built_at=time.time(),
            build_time_s=build_time_s,
            proof=proof,
        )
        write_durably(self.folder / ENTRY, entry.dump())
        shelf = self._shelves.unproven if proof is None else self._shelves.ready
        move_folder(self.folder, shelf / self._key.name)
        remove_folder(self._shelves.quarantine / self._key.name)
        remove_durably(self._shelves.wish(self._key.name))
        return entry

    def set_aside(self, kind: SetbackKind, reason: str) -> None:
        """Put what there is into quarantine with the reason; a wish for it is forgotten, or it would fail for ever."""
        setback = Setback(kind=kind, reason=reason, at=time.time(), source=self._source, parts=self._key.parts)
        write_durably(self.folder / SETBACK, setback.dump())
        move_folder(self.folder, self._shelves.quarantine / self._key.name)
        remove_durably(self._shelves.wish(self._key.name))

    def close(self) -> None:
        """Clear the place and let go of the key."""
        self._clear()
        self._lock.close()

    def _clear(self) -> None:
        with suppress(OSError):
            remove_folder(self.folder)


def _seal(path: Path) -> EngineFile:
    """Bring a file to the disk and note what it is."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return EngineFile(path=path.name, size_bytes=path.stat().st_size, sha256=digest)
