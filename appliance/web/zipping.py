"""Writes several files as one ZIP while it is sent: nothing is kept on the disk or in memory."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from runtime.plain_files import open_plain

_PIECE: Final = 1 << 20


def zip_files(paths: Sequence[Path]) -> Iterator[bytes]:
    """Give a ZIP file in pieces; of files with the same name the later ones get a number.

    Raises:
        OSError: A file cannot be read; what was sent by then is no complete ZIP file, which every program notices.
    """
    pipe = _Pipe()
    taken: set[str] = set()
    # Videos do not get any smaller.
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            name = _free_name(path, taken)
            with (
                open(open_plain(path, below=path.parent), "rb") as file,
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
        """Give what was written since the last time."""
        data = bytes(self._written)
        self._written.clear()
        return data


def _free_name(path: Path, taken: set[str]) -> str:
    wanted = path.name.encode("utf-8", "replace").decode()
    name, number = wanted, 1
    while name.casefold() in taken:
        number += 1
        name = f"{Path(wanted).stem} ({number}){Path(wanted).suffix}"
    taken.add(name.casefold())
    return name
