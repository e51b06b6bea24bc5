"""Which names in a watch folder count: media, not temporary, and as its patterns say."""

import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from appliance.watch.folder import NewFolder
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
    """Return whether a file's own name says that it is not finished, or not meant to be seen."""
    lower = name.lower()
    suffixes = PurePosixPath(lower).suffixes[-2:]
    return (
        lower.startswith(_TEMPORARY_STARTS)
        or lower.endswith("~")
        or not _TEMPORARY_SUFFIXES.isdisjoint(suffixes[-1:])
        or not _TEMPORARY_INNER.isdisjoint(suffixes)
    )


def is_wanted(relative: str, *, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Return whether a file counts by its patterns; without include patterns every suffix that can be read does."""
    if is_excluded(relative, exclude):
        return False
    if include:
        return any(_matches(relative, pattern) for pattern in include)
    return PurePosixPath(relative).suffix.lower() in media_suffixes()


def is_excluded(relative: str, exclude: Sequence[str]) -> bool:
    """Return whether a file or folder, or a folder above it, is excluded."""
    path = PurePosixPath(relative)
    steps = [path, *path.parents][:-1]
    return any(_matches(str(step), pattern) for step in steps for pattern in exclude)


def show_name(name: str) -> str:
    """Write a name on one line, what is not text or cannot be shown in escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def is_text(name: str) -> bool:
    """Return whether a name is valid Unicode, as a database and the readers of media need it."""
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


_DEEPEST: Final = 60
_MOST_FILES: Final = 200_000

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as a look found it; `is_declared` where a sidecar or a rename says that it is complete.

    `sidecar` is that sidecar's name.
    """

    name: str
    path: str
    size: int
    mtime_ns: int
    identity: Identity
    sidecar: str | None = None
    is_declared: bool = False


@dataclass(slots=True)
class Look:
    """What one look found.

    `passed_over` are files whose suffix is none of a film or a recording.

    `faults` are names of things that will never be enhanced as they are, with the reason. `unfinished` are the files
    with temporary names, for noticing that one gets its final name. `missing` says why the folder could not be read.
    """

    files: dict[str, SeenFile] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unfinished: dict[Identity, int] = field(default_factory=dict)
    missing: str | None = None


def look_at(wish: NewFolder, *, never: Collection[Identity] = ()) -> Look:
    """Look at a folder and everything below it.

    Args:
        wish: The folder and its patterns.
        never: Folders that are not entered even where a mount shows them: destinations and the data directory.
    """
    look = Look()
    root = str(wish.path)
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        look.missing = f"the folder {show_name(root)} cannot be read: {error.strerror}; is it there, and mounted?"
        return look
    entered: set[Identity] = set()
    waiting = [("", root, 0)]
    while waiting:
        relative, path, depth = waiting.pop()
        try:
            info = os.stat(path, follow_symlinks=False)
            identity = (info.st_dev, info.st_ino)
            if identity in entered or (relative and identity in never):
                continue
            entered.add(identity)
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if relative:
                advice = "check its permissions" if isinstance(error, PermissionError) else "is its drive still there?"
                look.faults[show_name(relative)] = f"the folder cannot be read: {error.strerror}; {advice}"
            else:
                look.missing = f"the folder {show_name(path)} cannot be read: {error.strerror}; is it there?"
            continue
        look.folders.append(path)
        names = {entry.name for entry in found}
        for entry in found:
            inner = f"{relative}/{entry.name}" if relative else entry.name
            if _is_real_folder(entry):
                if entry.name.startswith(".") or is_excluded(inner, wish.exclude):
                    continue
                if depth >= _DEEPEST:
                    look.faults[show_name(inner)] = f"more than {_DEEPEST} folders deep; move it up"
                    continue
                waiting.append((inner, entry.path, depth + 1))
            else:
                _note(look, wish, entry, inner, names)
        if len(look.files) > _MOST_FILES:
            look.missing = f"more than {_MOST_FILES} files are in the folder; move finished ones away"
            return look
    return look


def _is_real_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _note(look: Look, wish: NewFolder, entry: os.DirEntry[str], relative: str, names: Collection[str]) -> None:
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return  # gone, or about to be: the next look tells
    if is_temporary(entry.name):
        if stat.S_ISREG(info.st_mode):
            look.unfinished[info.st_dev, info.st_ino] = info.st_size
        return
    if not is_wanted(relative, include=wish.include, exclude=wish.exclude):
        if stat.S_ISLNK(info.st_mode) and _leads_out(wish, entry) and not is_excluded(relative, wish.exclude):
            look.faults[show_name(relative)] = "a link that leads out of the folder; it is not followed"
        if stat.S_ISREG(info.st_mode) and not wish.include and not is_excluded(relative, wish.exclude):
            _pass_over(look, entry, relative, names)
        return
    if any(relative.lower().endswith(ending) for ending in READY_SUFFIXES):
        return
    fault = _fault(wish, entry, info, relative)
    if fault is None:
        sidecar = _sidecar(entry, info, names)
        look.files[relative] = SeenFile(
            name=relative,
            path=entry.path,
            size=info.st_size,
            mtime_ns=info.st_mtime_ns,
            identity=(info.st_dev, info.st_ino),
            sidecar=sidecar,
            is_declared=sidecar is not None,
        )
    elif fault:
        look.faults[show_name(relative)] = fault


def _pass_over(look: Look, entry: os.DirEntry[str], relative: str, names: Collection[str]) -> None:
    """Note a file that is not taken, unless it only says that another one is complete."""
    lower = entry.name.lower()
    if not any(lower.endswith(ending) and entry.name[: -len(ending)] in names for ending in READY_SUFFIXES):
        look.passed_over.append(relative)


def _fault(wish: NewFolder, entry: os.DirEntry[str], info: os.stat_result, relative: str) -> str | None:
    """Say why something is no file to enhance; empty where it is passed over without a word."""
    if stat.S_ISLNK(info.st_mode):
        return "a link that leads out of the folder; it is not followed" if _leads_out(wish, entry) else ""
    kinds = (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    for is_kind, what in kinds:
        if is_kind(info.st_mode):
            return f"it is {what}, expected a file"
    if not is_text(relative):
        return "its name is not valid Unicode; rename it"
    return None


def _leads_out(wish: NewFolder, entry: os.DirEntry[str]) -> bool:
    """Return whether a link leads out of the folder; one that stays inside shows what is found there anyway."""
    root = os.path.realpath(wish.path)
    target = os.path.realpath(entry.path)
    return not (target == root or target.startswith(root.rstrip("/") + "/"))


def _sidecar(entry: os.DirEntry[str], info: os.stat_result, names: Collection[str]) -> str | None:
    """Return the name of the file that says that another one is complete.

    One that is older than the file was for what had that name before. Both times are of one machine.
    """
    for ending in READY_SUFFIXES:
        if entry.name + ending not in names:
            continue
        try:
            found = os.stat(entry.path + ending, follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mtime_ns >= info.st_mtime_ns:
            return entry.name + ending
    return None
