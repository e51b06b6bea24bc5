"""The log file of a long-running command, rotated in the data directory."""

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_BYTES: Final = 5_000_000
_KEPT: Final = 5
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_to_file(
    data: Path, *, level: int = logging.INFO, size_bytes: int = _BYTES, kept: int = _KEPT
) -> Iterator[Path]:
    """Log to `logs/relume.log` while the block runs; keep at most `kept` older files."""
    path = data / "logs" / "relume.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=size_bytes, backupCount=kept, encoding="utf-8", errors="backslashreplace", delay=True
    )
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield path
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


def rotate(path: Path, *, size_bytes: int = _BYTES) -> Path:
    """Rotate a log file that other processes append to, if it is too large; keep one older file.

    Returns:
        The path itself.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > size_bytes:
            path.replace(path.with_name(f"{path.name}.1"))
    return path
