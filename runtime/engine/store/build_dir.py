"""The folder in which one engine is built: it holds the key's lock, and is removed unless it is published."""

import hashlib
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.atomic_files import remove_durably, write_durably
from runtime.closing import Closing
from runtime.engine.device import EngineType
from runtime.engine.store.key import EngineKey
from runtime.engine.store.layout import (
    ENTRY,
    FAILURE,
    BuildFailure,
    EngineEntry,
    EngineFile,
    FailureKind,
    GoldenTestResult,
    StoreLayout,
    move_folder,
    remove_folder,
)
from runtime.file_lock import FileLock

SUFFIXES: Final = (".blob", ".engine")
"""Of the engine's file: OpenVINO's, and TensorRT's and TensorRT for RTX's."""


class BuildDir(Closing):
    """The folder of one build; a context manager that holds the key's lock.

    Waits while another process builds the same engine, and removes the leftovers of a killed builder.

    Raises:
        CancelledError: `stop` was set while it waited.
    """

    def __init__(self, layout: StoreLayout, key: EngineKey, source: Path, stop: threading.Event) -> None:
        self._layout, self._key, self._source = layout, key, source
        self._lock = FileLock.wait_exclusive(layout.lock(key.name), stop, holder="builds the same engine")
        self.folder = layout.partial / key.name
        self._clear()
        self.folder.mkdir(mode=0o700)
        self.engine = self.folder / f"engine{SUFFIXES[key.parts.engine_type is not EngineType.OPENVINO]}"
        """The file that the builder writes."""

    def publish(self, *, build_time_s: float, golden_test: GoldenTestResult | None) -> EngineEntry:
        """Move the engine to the ready ones, or, without a golden test, to those for other devices."""
        entry = EngineEntry(
            name=self._key.name,
            digest=self._key.digest,
            parts=self._key.parts,
            source=self._source,
            file=_seal(self.engine),
            built_at=time.time(),
            build_time_s=build_time_s,
            golden_test=golden_test,
        )
        write_durably(self.folder / ENTRY, entry.dump())
        target = self._layout.unverified if golden_test is None else self._layout.ready
        move_folder(self.folder, target / self._key.name)
        remove_folder(self._layout.quarantine / self._key.name)
        remove_durably(self._layout.request_file(self._key.name))
        return entry

    def quarantine(self, kind: FailureKind, reason: str) -> None:
        """Move the folder to quarantine with the reason, and drop the request, which would fail every time."""
        failure = BuildFailure(kind=kind, reason=reason, at=time.time(), source=self._source, parts=self._key.parts)
        write_durably(self.folder / FAILURE, failure.dump())
        move_folder(self.folder, self._layout.quarantine / self._key.name)
        remove_durably(self._layout.request_file(self._key.name))

    def close(self) -> None:
        """Remove the folder and release the lock."""
        self._clear()
        self._lock.close()

    def _clear(self) -> None:
        with suppress(OSError):
            remove_folder(self.folder)


def _seal(path: Path) -> EngineFile:
    """Flush a file to the disk and return its size and digest."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return EngineFile(path=path.name, size_bytes=path.stat().st_size, sha256=digest)
