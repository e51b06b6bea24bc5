"""Which folders may be watched or written to, by path, mount and inode."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from appliance.watch.errors import FolderError
from appliance.watch.folder import LONGEST_HOLD_S, FolderConfig
from appliance.watch.scan import is_excluded, is_text, show_name

MOUNTINFO: Final = Path("/proc/self/mountinfo")

_NETWORK_KINDS: Final = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "smb2", "ncpfs", "9p", "virtiofs", "afs", "ceph", "glusterfs",
        "lustre", "ocfs2", "gfs2", "beegfs", "gpfs", "orangefs", "davfs", "coda", "vboxsf", "vmhgfs", "prl_fs",
        "drvfs",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: the directory `root` of a file system, mounted at `point`."""

    device: str
    root: str
    point: str
    kind: str
    source: str

    @property
    def is_network(self) -> bool:
        """Return True if inotify may miss changes, which other machines make.

        So may it with FUSE: the file systems behind it (sshfs, rclone, s3fs, NTFS) are seldom local.
        """
        return self.kind in _NETWORK_KINDS or self.kind.startswith("fuse")


def read_mounts(text: str) -> tuple[Mount, ...]:
    """Parse /proc/self/mountinfo; a later mount at the same point hides an earlier one."""
    mounts = {}
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or len(rest) < 2:
            continue
        point = _unescape(fields[4])
        mounts[point] = Mount(fields[2], _unescape(fields[3]), point, rest[0], _unescape(rest[1]))
    return tuple(mounts.values())


def current_mounts() -> tuple[Mount, ...]:
    """Return the current mounts; none where the kernel has no mountinfo."""
    try:
        return read_mounts(os.fsdecode(MOUNTINFO.read_bytes()))
    except OSError:
        return ()


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that a real path is on."""
    inside = [mount for mount in mounts if is_below(path, mount.point)]
    return max(inside, key=lambda mount: len(mount.point), default=None)


def locate(path: str, mounts: tuple[Mount, ...]) -> tuple[str, str]:
    """Return the file system of a real path and the path in it, the same for every bind mount."""
    mount = mount_of(path, mounts)
    if mount is None:
        return "", path
    relative = os.path.relpath(path, mount.point)
    return mount.device, str(PurePosixPath(os.path.normpath(os.path.join(mount.root, relative))))


def is_below(path: str, folder: str) -> bool:
    """Return True if a path is a folder or in it, by names alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _unescape(text: str) -> str:
    r"""Undo the octal escapes of mountinfo: blank, tab, newline and backslash."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


_SYSTEM: Final = (Path("/proc"), Path("/sys"), Path("/dev"), Path("/run/udev"))


def check_folder(
    config: FolderConfig, others: Iterable[FolderConfig], *, data: Path | None, mounts: tuple[Mount, ...] | None = None
) -> None:
    """Refuse a folder whose results, or those of another one, would be found as new files.

    Args:
        config: The folder; its path must exist.
        others: The other watch folders.
        data: The data directory, which holds results too.
        mounts: The mounts; the current ones if None.

    Raises:
        FolderError: It is refused; the message names the reason and a remedy.
    """
    mounts = current_mounts() if mounts is None else mounts
    _check_values(config)
    _check_own(config, mounts)
    if data is not None:
        _check_data(config, data, mounts)
    for other in others:
        _check_pair(config, other, mounts)
        _check_pair(other, config, mounts)
        if is_same(config.path, other.path, mounts):
            raise FolderError(f"{config.path} is already watched; change that watch folder instead", field="path")
        for outer, inner in ((config, other), (other, config)):
            if _feeds(outer, inner.path, mounts):
                raise FolderError(
                    f"{inner.path} is inside the watch folder {outer.path}, so its files would be processed twice; "
                    f"{_advice(outer.path, inner.path)}choose another folder",
                    field="path",
                )


def is_system_path(path: Path) -> bool:
    """Return True for the root directory and for virtual file systems, which hold no media."""
    real = Path(os.path.realpath(path))
    return real == Path("/") or any(real == place or place in real.parents for place in _SYSTEM)


def network_mount(path: Path, mounts: tuple[Mount, ...] | None = None) -> Mount | None:
    """Return the network file system of a path, None for a local disk."""
    mount = mount_of(os.path.realpath(path), current_mounts() if mounts is None else mounts)
    return mount if mount is not None and mount.is_network else None


def mount_name(path: Path, mounts: tuple[Mount, ...] | None = None) -> str | None:
    """Return the name of the share or separate disk of a path, for finding out later whether it is still mounted.

    None for the system's disk, and for mounts of a directory of a disk, as in a container or service.
    """
    mount = mount_of(os.path.realpath(path), current_mounts() if mounts is None else mounts)
    if mount is None:
        return None
    if mount.is_network:
        return f"{mount.source} ({mount.kind})"
    # By mount point: the device of a disk may have another name after the next start.
    return f"the disk at {mount.point} ({mount.kind})" if mount.root == "/" != mount.point else None


def find_missing_mount(mount: str | None, path: Path) -> str | None:
    """Return a message if a share or disk is no longer mounted at a path, whose content is then another one."""
    if mount is None or mount_name(path) == mount:
        return None
    return f"{mount} is not mounted any more, so {show_name(str(path))} is another folder; mount it again"


def is_same(path: Path, other: Path, mounts: tuple[Mount, ...]) -> bool:
    """Return True if two paths are the same folder."""
    return _lies_in(path, other, mounts) and _lies_in(other, path, mounts)


def _check_values(config: FolderConfig) -> None:
    named = (
        ("watch folder", "path", config.path),
        ("destination", "destination", config.destination),
        ("done folder", "done_folder", config.done_folder),
    )
    for what, field, path in named:
        if path is None:
            continue
        if not is_text(str(path)):
            raise FolderError(f"the path of the {what} is not valid Unicode; rename the folder", field=field)
        if not path.is_absolute():
            raise FolderError(f"the {what} is {path}: type the full path, beginning with /", field=field)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise FolderError(f"the {what} {path} is a file; choose a folder", field=field)
        if is_system_path(path):
            raise FolderError(f"the {what} {path} belongs to the system; choose another folder", field=field)
    if not os.path.isdir(config.path):
        raise FolderError(
            f"the watch folder {config.path} does not exist or cannot be reached; create or mount it first",
            field="path",
        )
    if not 0 <= config.hold_s <= LONGEST_HOLD_S:
        raise FolderError(
            f"the waiting time is {config.hold_s:g} s: type a number between 0 and {LONGEST_HOLD_S:g}", field="hold_s"
        )
    if not all(pattern.strip() and is_text(pattern) for pattern in (*config.include, *config.exclude)):
        raise FolderError("a file name to include or exclude is empty; type one such as *.mp4", field="include")
    if config.options.compare is not None or config.options.overwrite:
        raise FolderError("a watch folder never overwrites and saves no comparison image; leave these options out")


def _check_own(config: FolderConfig, mounts: tuple[Mount, ...]) -> None:
    _check_pair(config, config, mounts)
    if config.done_folder is not None and is_same(config.done_folder, config.destination, mounts):
        raise FolderError(
            f"{config.destination} is both the destination and the done folder; choose two folders", field="done_folder"
        )


def _check_pair(watched: FolderConfig, writer: FolderConfig, mounts: tuple[Mount, ...]) -> None:
    """Refuse that one folder finds the files that the jobs of another, or its own, write."""
    for what, field, place in (
        ("destination", "destination", writer.destination),
        ("done folder", "done_folder", writer.done_folder),
    ):
        if place is None:
            continue
        if _feeds(watched, place, mounts):
            raise FolderError(
                f"the {what} {place} is inside the watch folder {watched.path}, so results would be found as new "
                f"files; {_advice(watched.path, place)}choose a folder outside it",
                field=field,
            )
        if _lies_in(watched.path, place, mounts):
            raise FolderError(
                f"the watch folder {watched.path} is inside the {what} {place}, so results could be written to it; "
                "choose a folder beside it",
                field=field,
            )


def _check_data(config: FolderConfig, data: Path, mounts: tuple[Mount, ...]) -> None:
    if _feeds(config, data, mounts):
        raise FolderError(
            f"the watch folder {config.path} contains Relume's own data; choose another folder", field="path"
        )
    for what, field, place in (
        ("watch folder", "path", config.path),
        ("destination", "destination", config.destination),
        ("done folder", "done_folder", config.done_folder),
    ):
        if place is not None and _lies_in(place, data, mounts):
            raise FolderError(f"the {what} {place} is inside Relume's own data; choose another folder", field=field)


def _feeds(watched: FolderConfig, place: Path, mounts: tuple[Mount, ...]) -> bool:
    """Return True if a watch folder finds files that are written to a folder."""
    if not _lies_in(place, watched.path, mounts):
        return False
    relative = _relative(watched.path, place)
    return not relative or not is_excluded(relative, watched.exclude)


def _lies_in(path: Path, folder: Path, mounts: tuple[Mount, ...]) -> bool:
    """Return True if a path is a folder or in it: by real path, by path in the file system, and by inode."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    if is_below(real, real_folder):
        return True
    device, inner = locate(real, mounts)
    folder_device, folder_inner = locate(real_folder, mounts)
    if device and device == folder_device and is_below(inner, folder_inner):
        return True
    wanted = identity(real_folder)
    return wanted is not None and any(identity(step) == wanted for step in (Path(real), *Path(real).parents))


def identity(path: str | Path) -> tuple[int, int] | None:
    """Return device and inode of a path, None where nothing is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _relative(folder: Path, place: Path) -> str:
    """Return the path of a folder relative to another; empty if it is the same, or in it only by a mount."""
    relative = os.path.relpath(os.path.realpath(place), os.path.realpath(folder))
    return "" if relative == "." or relative.startswith("..") else relative


def _advice(folder: Path, place: Path) -> str:
    """Return advice for excluding a folder inside a watch folder, empty where that is not possible."""
    relative = _relative(folder, place)
    return f"exclude “{relative}” there, or " if relative else ""
