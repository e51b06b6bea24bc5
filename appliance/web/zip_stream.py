"""Streams several files as one ZIP archive, without storing it on disk or in memory."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20


def zip_files(files: Sequence[tuple[str, Callable[[], int]]]) -> Iterator[bytes]:
    """Yield a ZIP archive in chunks; further files with the same name get a number.

    Args:
        files: The name of each file, and a function that opens it and returns its descriptor.

    Raises:
        OSError: A file cannot be read; the archive is then incomplete, which every program detects.
    """
    pipe = _Pipe()
    taken: set[str] = set()
    # Videos do not compress further.
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for wanted, open_file in files:
            name = _free_name(wanted, taken)
            with (
                open(open_file(), "rb") as file,
                archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry,
            ):
                while chunk := file.read(_CHUNK_BYTES):
                    entry.write(chunk)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """The output of ZipFile; it cannot seek, so that sizes follow the data."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Buffer bytes."""
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """Return and clear the buffer."""
        data = bytes(self._written)
        self._written.clear()
        return data


def _free_name(name: str, taken: set[str]) -> str:
    wanted = name.encode("utf-8", "replace").decode()
    name, number = wanted, 1
    while name.casefold() in taken:
        number += 1
        name = f"{Path(wanted).stem} ({number}){Path(wanted).suffix}"
    taken.add(name.casefold())
    return name
