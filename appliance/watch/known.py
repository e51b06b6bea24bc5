"""What is known of the files of one folder: the ledger, and a copy of it in memory that every look compares with."""

import os
from pathlib import Path

from appliance.watch.folder import FileState, WatchedFile, WatchFolder
from appliance.watch.ledger import Ledger
from appliance.watch.names import show_name
from appliance.watch.places import mount_name


class KnownFiles:
    """The files of a folder; used by one thread, which alone changes the folder's ledger."""

    def __init__(self, folder: WatchFolder, ledger: Ledger) -> None:
        self.ledger = ledger
        self._root = folder.wish.path
        self._files = {file.name: file for file in ledger.files()}

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def get(self, name: str) -> WatchedFile | None:
        """Give what is known of a file, None where it is new."""
        return self._files.get(name)

    def all(self, *states: FileState) -> list[WatchedFile]:
        """Give the files in some states, or all."""
        return [file for file in self._files.values() if not states or file.state in states]

    def put(self, file: WatchedFile) -> None:
        """Note what became of a file."""
        self.ledger.put(file)
        self._files[file.name] = file

    def note(self, file: WatchedFile) -> None:
        """Remember what the ledger was told of already."""
        self._files[file.name] = file

    def overlook(self, file: WatchedFile) -> None:
        """Take a file for a new one; the ledger keeps it until it is known again."""
        self._files.pop(file.name, None)

    def forget(self, file: WatchedFile) -> None:
        """Remove a file from the record."""
        self.ledger.forget([file.name])
        self.overlook(file)

    def release(self, file: WatchedFile) -> None:
        """Let another file of the same content be done, as this one was not."""
        self.ledger.release_content(file)
        for other in self.all(FileState.SAME):
            if other.same_as == file.name and other.digest == file.digest:
                self.overlook(other)

    def path(self, file: WatchedFile) -> Path:
        """Give the place of a file."""
        return self._root / file.name


def find_missing_mount(mount: str | None, path: Path) -> str | None:
    """Say that a share or disk is not where it was: nothing is taken from, or written to, what lies under it."""
    if mount is None or mount_name(path) == mount:
        return None
    return f"{mount} is not mounted any more, so {show_name(str(path))} is not what it was; mount it again"


def is_stat(path: str, size: int, mtime_ns: int) -> bool:
    """Tell whether a file is there with that size and time."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size, mtime_ns)
