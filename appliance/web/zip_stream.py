"""Writes several files as one ZIP while it is sent: nothing is kept on the disk or in memory."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 20


def zip_files(files: Sequence[tuple[str, Callable[[], int]]]) -> Iterator[bytes]:
    """Return a ZIP file in pieces; of files with the same name the later ones get a number.

    Args:
        files: The name of each, and what opens it and returns its descriptor.

    Raises:
        OSError: A file cannot be read; what was sent by then is no complete ZIP file, which every program notices.
    """
    pipe = _Pipe()
    taken: set[str] = set()
    # Videos do not get any smaller.
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for told, open_file in files:
            name = _free_name(told, taken)
            with (
                open(open_file(), "rb") as file,
                archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry,
            ):
                while piece := file.read(_PIECE):
                    entry.write(piece)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """What ZipFile writes to: it cannot seek, so that sizes follow the data."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        """Tell that it takes bytes."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Take bytes."""
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        data = bytes(self._written)
        self._written.clear()
        return data


def _free_name(told: str, taken: set[str]) -> str:
    wanted = told.encode("utf-8", "replace").decode()
    name, number = wanted, 1
    while name.casefold() in taken:
        number += 1
        name = f"{Path(wanted).stem} ({number}){Path(wanted).suffix}"
    taken.add(name.casefold())
    return name
