"""Which names in a watch folder count: media, not temporary, and as its patterns say."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from runtime.media.containers import media_suffixes

READY_SUFFIXES: Final = (".ready", ".done")
"""`clip.mp4.ready` beside `clip.mp4` says that it is complete."""

_TEMPORARY_SUFFIXES: Final = frozenset(
    {
        ".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".opdownload", ".filepart", ".aria2",
        ".!ut", ".!qb", ".bc!", ".swp", ".swx", ".lock", ".writing", ".incomplete", ".copying", ".upload",
        ".uploading", ".unfinished",
    }
)  # fmt: skip
_TEMPORARY_INNER: Final = frozenset(
    {
        ".part", ".partial", ".tmp", ".crdownload", ".filepart", ".incomplete",
    }
)  # fmt: skip
"""Those that also count before the last suffix, as in `clip.part.mp4`."""

_TEMPORARY_STARTS: Final = (".", "~", "#")
_LONGEST_NAME: Final = 200
"""Bytes of a result's name: what 255 leave beside the additions of a temporary name."""


def is_temporary(name: str) -> bool:
    """Tell whether a file's own name says that it is not finished, or not meant to be seen."""
    lower = name.lower()
    suffixes = PurePosixPath(lower).suffixes[-2:]
    return (
        lower.startswith(_TEMPORARY_STARTS)
        or lower.endswith("~")
        or not _TEMPORARY_SUFFIXES.isdisjoint(suffixes[-1:])
        or not _TEMPORARY_INNER.isdisjoint(suffixes)
    )


def is_wanted(relative: str, *, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether a file counts by its patterns; without include patterns every suffix that can be read does."""
    if is_excluded(relative, exclude):
        return False
    if include:
        return any(_matches(relative, pattern) for pattern in include)
    return PurePosixPath(relative).suffix.lower() in media_suffixes()


def is_excluded(relative: str, exclude: Sequence[str]) -> bool:
    """Tell whether a file or folder, or a folder above it, is excluded."""
    path = PurePosixPath(relative)
    steps = [path, *path.parents][:-1]
    return any(_matches(str(step), pattern) for step in steps for pattern in exclude)


def show_name(name: str) -> str:
    """Write a name on one line, what is not text or cannot be shown in escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def is_text(name: str) -> bool:
    """Tell whether a name is valid Unicode, as a database and the readers of media need it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def result_name(relative: str, suffix: str, number: int = 1) -> PurePosixPath:
    """Name the result of a file: its place in the tree, with the suffix of the result.

    Args:
        relative: The source's path below its folder.
        suffix: The result's suffix.
        number: 2 and more give other names, for where the first is taken.
    """
    path = PurePosixPath(relative)
    ending = suffix if number == 1 else f".{number}{suffix}"
    stem = path.name[: -len(path.suffix)] if path.suffix else path.name
    room = _LONGEST_NAME - len(ending.encode())
    stem = stem.encode()[:room].decode(errors="ignore") or "result"
    return path.with_name(stem + ending)


def _matches(relative: str, pattern: str) -> bool:
    """Match a pattern against the whole path, or against the name alone where the pattern has no slash."""
    lower, pattern = relative.lower(), pattern.lower().removeprefix("./").rstrip("/")
    if "/" not in pattern:
        return fnmatchcase(PurePosixPath(lower).name, pattern)
    return fnmatchcase(lower, pattern) or fnmatchcase(lower, pattern.removesuffix("/**"))
