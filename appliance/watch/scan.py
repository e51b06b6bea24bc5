"""Scan of a watch folder: its media files by name and pattern, without temporary and unusable entries."""

import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from appliance.watch.folder import FolderConfig
from runtime.media.containers import media_suffixes

READY_SUFFIXES: Final = (".ready", ".done")
"""`clip.mp4.ready` beside `clip.mp4` declares it complete."""

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
"""Suffixes that also mark a temporary file before the last one, as in `clip.part.mp4`."""

_TEMPORARY_STARTS: Final = (".", "~", "#")
_MAX_NAME_BYTES: Final = 200
"""Of a result: 255 without the additions of a temporary name."""


def is_temporary(name: str) -> bool:
    """Return True for the name of an unfinished or hidden file."""
    lower = name.lower()
    suffixes = PurePosixPath(lower).suffixes[-2:]
    return (
        lower.startswith(_TEMPORARY_STARTS)
        or lower.endswith("~")
        or not _TEMPORARY_SUFFIXES.isdisjoint(suffixes[-1:])
        or not _TEMPORARY_INNER.isdisjoint(suffixes)
    )


def is_wanted(relative: str, *, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Return True if a file matches the patterns; without include patterns every media suffix matches."""
    if is_excluded(relative, exclude):
        return False
    if include:
        return any(_matches(relative, pattern) for pattern in include)
    return PurePosixPath(relative).suffix.lower() in media_suffixes()


def is_excluded(relative: str, exclude: Sequence[str]) -> bool:
    """Return True if a file or folder, or a folder above it, is excluded."""
    path = PurePosixPath(relative)
    steps = [path, *path.parents][:-1]
    return any(_matches(str(step), pattern) for step in steps for pattern in exclude)


def show_name(name: str) -> str:
    """Return a name on one line, with escapes for invalid and unprintable characters."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def is_text(name: str) -> bool:
    """Return True if a name is valid Unicode, which the database and FFmpeg require."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def result_name(relative: str, suffix: str, number: int = 1) -> PurePosixPath:
    """Return the relative path of a file's result: the same folder and name, with the suffix of the result.

    Args:
        relative: The source's path below its folder.
        suffix: The result's suffix.
        number: 2 and above return alternatives for a name that is taken.
    """
    path = PurePosixPath(relative)
    ending = suffix if number == 1 else f".{number}{suffix}"
    stem = path.name[: -len(path.suffix)] if path.suffix else path.name
    room = _MAX_NAME_BYTES - len(ending.encode())
    stem = stem.encode()[:room].decode(errors="ignore") or "result"
    return path.with_name(stem + ending)


def _matches(relative: str, pattern: str) -> bool:
    """Match a pattern against the whole path, or only against the name if the pattern has no slash."""
    lower, pattern = relative.lower(), pattern.lower().removeprefix("./").rstrip("/")
    if "/" not in pattern:
        return fnmatchcase(PurePosixPath(lower).name, pattern)
    return fnmatchcase(lower, pattern) or fnmatchcase(lower, pattern.removesuffix("/**"))


_MAX_DEPTH: Final = 60
_MAX_FILES: Final = 200_000

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file in a scan; `is_declared` if the file `sidecar` declares it complete."""

    name: str
    path: str
    size: int
    mtime_ns: int
    identity: Identity
    sidecar: str | None = None
    is_declared: bool = False


@dataclass(slots=True)
class ScanResult:
    """The result of one scan.

    `passed_over` are files without a media suffix. `faults` are entries that cannot be enhanced, with the reason.
    `unfinished` are files with temporary names, for recognising one when it gets its final name. `missing` is the
    reason why the folder could not be read.
    """

    files: dict[str, SeenFile] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unfinished: dict[Identity, int] = field(default_factory=dict)
    missing: str | None = None


def scan(config: FolderConfig, *, excluded: Collection[Identity] = ()) -> ScanResult:
    """Scan a folder and its subfolders.

    Args:
        config: The folder and its patterns.
        excluded: Folders that are not entered even where a mount shows them: destinations and the data directory.
    """
    result = ScanResult()
    root = str(config.path)
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        result.missing = f"the folder {show_name(root)} cannot be read: {error.strerror}; is it there, and mounted?"
        return result
    entered: set[Identity] = set()
    pending = [("", root, 0)]
    while pending:
        relative, path, depth = pending.pop()
        try:
            info = os.stat(path, follow_symlinks=False)
            identity = (info.st_dev, info.st_ino)
            if identity in entered or (relative and identity in excluded):
                continue
            entered.add(identity)
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if relative:
                advice = "check its permissions" if isinstance(error, PermissionError) else "is its drive still there?"
                result.faults[show_name(relative)] = f"the folder cannot be read: {error.strerror}; {advice}"
            else:
                result.missing = f"the folder {show_name(path)} cannot be read: {error.strerror}; is it there?"
            continue
        result.folders.append(path)
        names = {entry.name for entry in found}
        for entry in found:
            inner = f"{relative}/{entry.name}" if relative else entry.name
            if _is_real_folder(entry):
                if entry.name.startswith(".") or is_excluded(inner, config.exclude):
                    continue
                if depth >= _MAX_DEPTH:
                    result.faults[show_name(inner)] = f"more than {_MAX_DEPTH} folders deep; move it up"
                    continue
                pending.append((inner, entry.path, depth + 1))
            else:
                _record(result, config, entry, inner, names)
        if len(result.files) > _MAX_FILES:
            result.missing = f"more than {_MAX_FILES} files are in the folder; move finished ones away"
            return result
    return result


def _is_real_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _record(
    result: ScanResult, config: FolderConfig, entry: os.DirEntry[str], relative: str, names: Collection[str]
) -> None:
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return  # gone: left to the next scan
    if is_temporary(entry.name):
        if stat.S_ISREG(info.st_mode):
            result.unfinished[info.st_dev, info.st_ino] = info.st_size
        return
    if not is_wanted(relative, include=config.include, exclude=config.exclude):
        if stat.S_ISLNK(info.st_mode) and _leads_out(config, entry) and not is_excluded(relative, config.exclude):
            result.faults[show_name(relative)] = "a link that leads out of the folder; it is not followed"
        if stat.S_ISREG(info.st_mode) and not config.include and not is_excluded(relative, config.exclude):
            _record_passed_over(result, entry, relative, names)
        return
    if any(relative.lower().endswith(ending) for ending in READY_SUFFIXES):
        return
    fault = _fault(config, entry, info, relative)
    if fault is None:
        sidecar = _sidecar(entry, info, names)
        result.files[relative] = SeenFile(
            name=relative,
            path=entry.path,
            size=info.st_size,
            mtime_ns=info.st_mtime_ns,
            identity=(info.st_dev, info.st_ino),
            sidecar=sidecar,
            is_declared=sidecar is not None,
        )
    elif fault:
        result.faults[show_name(relative)] = fault


def _record_passed_over(result: ScanResult, entry: os.DirEntry[str], relative: str, names: Collection[str]) -> None:
    """Record a file without a media suffix, unless it declares another one complete."""
    lower = entry.name.lower()
    if not any(lower.endswith(ending) and entry.name[: -len(ending)] in names for ending in READY_SUFFIXES):
        result.passed_over.append(relative)


def _fault(config: FolderConfig, entry: os.DirEntry[str], info: os.stat_result, relative: str) -> str | None:
    """Return why an entry cannot be enhanced, None for a usable file, and "" for an entry that is skipped silently."""
    if stat.S_ISLNK(info.st_mode):
        return "a link that leads out of the folder; it is not followed" if _leads_out(config, entry) else ""
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


def _leads_out(config: FolderConfig, entry: os.DirEntry[str]) -> bool:
    """Return True if a link leads out of the folder; the target of any other is found anyway."""
    root = os.path.realpath(config.path)
    target = os.path.realpath(entry.path)
    return not (target == root or target.startswith(root.rstrip("/") + "/"))


def _sidecar(entry: os.DirEntry[str], info: os.stat_result, names: Collection[str]) -> str | None:
    """Return the name of the file that declares another one complete.

    One that is older than the file was for an earlier file of that name. Both times are of one machine.
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
