"""The folders of the store, and the one rule of all of them: an engine's folder appears, moves and goes as a whole."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.errors import EngineStoreError
from runtime.segments.durable import sync_folder

_FOLDERS: Final = ("ready", "unproven", "partial", "quarantine", "wanted", "locks", "cache")


class Shelves:
    """Where everything lies in a store's folder.

    Attributes:
        ready: Proven engines, a folder each.
        unproven: Engines that were built for another device; never used here.
        partial: Engines that are being built; without a builder it is litter.
        quarantine: What failed, with the reason.
        wanted: Engines that are to be built, a file each.
        locks: A lock for each key.
        cache: What builders remember of their own between builds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready, self.unproven, self.partial = folder / "ready", folder / "unproven", folder / "partial"
        self.quarantine, self.wanted = folder / "quarantine", folder / "wanted"
        self.locks, self.cache = folder / "locks", folder / "cache"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            EngineStoreError: They cannot be made.
        """
        try:
            for name in _FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EngineStoreError(
                f"the engine store {self.folder} cannot be used: {error.strerror}; give it to the user that runs "
                "Relume, or choose another data directory"
            ) from error

    def lock(self, name: str) -> Path:
        """Give the lock of a key."""
        return self.locks / f"{name}.lock"

    def wish(self, name: str) -> Path:
        """Give the file in which a wish is written down."""
        return self.wanted / f"{name}.json"


def move_folder(source: Path, target: Path) -> None:
    """Put a folder in the place of another; after any crash the target is the old one, the new one, or missing."""
    sync_folder(source)
    remove_folder(target)
    os.rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder that may be missing: first its name, so that nobody finds half of it."""
    doomed = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def list_names(folder: Path) -> list[str]:
    """Give the names in a folder that may be missing, but for those that are being removed."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
