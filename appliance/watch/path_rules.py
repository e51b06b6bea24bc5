"""What the kernel says of mounts: which file system a path is on, and whether other machines write to it too."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from appliance.watch.errors import FolderError
from appliance.watch.folder import LONGEST_HOLD_S, NewFolder
from appliance.watch.scan import is_excluded, is_text

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
    """One line of mountinfo: the part `root` of a file system, seen at `point`."""

    device: str
    root: str
    point: str
    kind: str
    source: str

    @property
    def is_network(self) -> bool:
        """Return whether changes by other machines may go unnoticed by this one's kernel.

        FUSE counts as well: what lies behind it (sshfs, rclone, s3fs, NTFS) is seldom local, and polling is right for
        all of it.
        """
        return self.kind in _NETWORK_KINDS or self.kind.startswith("fuse")


def read_mounts(text: str) -> tuple[Mount, ...]:
    """Read the text of /proc/self/mountinfo; a later mount at the same place hides an earlier one."""
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
    """Read the mounts of now; none where the kernel has no mountinfo."""
    try:
        return read_mounts(os.fsdecode(MOUNTINFO.read_bytes()))
    except OSError:
        return ()


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that a real path is on."""
    inside = [mount for mount in mounts if is_below(path, mount.point)]
    return max(inside, key=lambda mount: len(mount.point), default=None)


def place_in_file_system(path: str, mounts: tuple[Mount, ...]) -> tuple[str, str]:
    """Return the file system of a real path and the place in it, the same for every bind mount that shows it."""
    mount = mount_of(path, mounts)
    if mount is None:
        return "", path
    relative = os.path.relpath(path, mount.point)
    return mount.device, str(PurePosixPath(os.path.normpath(os.path.join(mount.root, relative))))


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies in it, by their names alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _unescape(text: str) -> str:
    r"""Undo the octal escapes of mountinfo: blank, tab, newline and backslash."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


_SYSTEM: Final = (Path("/proc"), Path("/sys"), Path("/dev"), Path("/run/udev"))


def check_folder(
    wish: NewFolder, others: Iterable[NewFolder], *, data: Path | None, mounts: tuple[Mount, ...] | None = None
) -> None:
    """Refuse a folder whose results, or those of another one, would be taken as new files.

    Args:
        wish: The folder; its path must exist.
        others: The other watch folders.
        data: The data directory, which holds results too.
        mounts: The mounts; those of now if None.

    Raises:
        FolderError: It is refused; the message says why and what to choose instead.
    """
    mounts = current_mounts() if mounts is None else mounts
    _check_values(wish)
    _check_own(wish, mounts)
    if data is not None:
        _check_data(wish, data, mounts)
    for other in others:
        _check_pair(wish, other, mounts)
        _check_pair(other, wish, mounts)
        if same_place(wish.path, other.path, mounts):
            raise FolderError(f"{wish.path} is watched already; change that watch folder instead", field="path")
        for outer, inner in ((wish, other), (other, wish)):
            if _feeds(outer, inner.path, mounts):
                raise FolderError(
                    f"{inner.path} is inside the watch folder {outer.path}, so its files would be processed twice; "
                    f"{_advice(outer.path, inner.path)}choose another folder",
                    field="path",
                )


def is_system_place(path: Path) -> bool:
    """Return whether a path is the root, or among what the kernel makes up: there are no recordings there."""
    real = Path(os.path.realpath(path))
    return real == Path("/") or any(real == place or place in real.parents for place in _SYSTEM)


def network_mount(path: Path, mounts: tuple[Mount, ...] | None = None) -> Mount | None:
    """Return the network file system that a path is on, None where it is on a disk of this machine."""
    mount = mount_of(os.path.realpath(path), current_mounts() if mounts is None else mounts)
    return mount if mount is not None and mount.is_network else None


def mount_name(path: Path, mounts: tuple[Mount, ...] | None = None) -> str | None:
    """Name the share or separate disk that a path is on, for telling later whether it is still there.

    None where the path is on the disk of the system, or where a mount shows just a part of a disk, as those of a
    container and of a service do.
    """
    mount = mount_of(os.path.realpath(path), current_mounts() if mounts is None else mounts)
    if mount is None:
        return None
    if mount.is_network:
        return f"{mount.source} ({mount.kind})"
    # A disk's device may have another name after the next start, so it is known by its place.
    return f"the disk at {mount.point} ({mount.kind})" if mount.root == "/" != mount.point else None


def same_place(path: Path, other: Path, mounts: tuple[Mount, ...]) -> bool:
    """Return whether two paths are one folder."""
    return _lies_in(path, other, mounts) and _lies_in(other, path, mounts)


def _check_values(wish: NewFolder) -> None:
    named = (
        ("watch folder", "path", wish.path),
        ("destination", "destination", wish.destination),
        ("done folder", "done_folder", wish.done_folder),
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
        if is_system_place(path):
            raise FolderError(f"the {what} {path} belongs to the system; choose another folder", field=field)
    if not os.path.isdir(wish.path):
        raise FolderError(
            f"the watch folder {wish.path} does not exist or cannot be reached; create or mount it first", field="path"
        )
    if not 0 <= wish.hold_s <= LONGEST_HOLD_S:
        raise FolderError(
            f"the waiting time is {wish.hold_s:g} s: type a number between 0 and {LONGEST_HOLD_S:g}", field="hold_s"
        )
    if not all(pattern.strip() and is_text(pattern) for pattern in (*wish.include, *wish.exclude)):
        raise FolderError("a file name to include or exclude is empty; type one such as *.mp4", field="include")
    if wish.options.compare is not None or wish.options.overwrite:
        raise FolderError("a watch folder never overwrites and saves no comparison picture; leave these options out")


def _check_own(wish: NewFolder, mounts: tuple[Mount, ...]) -> None:
    _check_pair(wish, wish, mounts)
    if wish.done_folder is not None and same_place(wish.done_folder, wish.destination, mounts):
        raise FolderError(
            f"{wish.destination} is both the destination and the done folder; choose two folders", field="done_folder"
        )


def _check_pair(watched: NewFolder, writer: NewFolder, mounts: tuple[Mount, ...]) -> None:
    """Refuse that what one folder's jobs write is found by another one, or by the same."""
    for what, field, place in (
        ("destination", "destination", writer.destination),
        ("done folder", "done_folder", writer.done_folder),
    ):
        if place is None:
            continue
        if _feeds(watched, place, mounts):
            raise FolderError(
                f"the {what} {place} is inside the watch folder {watched.path}, so results would be taken as new "
                f"files; {_advice(watched.path, place)}choose a folder outside it",
                field=field,
            )
        if _lies_in(watched.path, place, mounts):
            raise FolderError(
                f"the watch folder {watched.path} is inside the {what} {place}, so results could land in it; "
                "choose a folder beside it",
                field=field,
            )


def _check_data(wish: NewFolder, data: Path, mounts: tuple[Mount, ...]) -> None:
    if _feeds(wish, data, mounts):
        raise FolderError(
            f"the watch folder {wish.path} contains Relume's own data; choose another folder", field="path"
        )
    for what, field, place in (
        ("watch folder", "path", wish.path),
        ("destination", "destination", wish.destination),
        ("done folder", "done_folder", wish.done_folder),
    ):
        if place is not None and _lies_in(place, data, mounts):
            raise FolderError(f"the {what} {place} is inside Relume's own data; choose another folder", field=field)


def _feeds(watched: NewFolder, place: Path, mounts: tuple[Mount, ...]) -> bool:
    """Return whether files written to a place are found by a watch folder."""
    if not _lies_in(place, watched.path, mounts):
        return False
    relative = _relative(watched.path, place)
    return not relative or not is_excluded(relative, watched.exclude)


def _lies_in(path: Path, folder: Path, mounts: tuple[Mount, ...]) -> bool:
    """Return whether a path is a folder or below it: by real path, by place in the file system, and by inode."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    if is_below(real, real_folder):
        return True
    device, place = place_in_file_system(real, mounts)
    folder_device, folder_place = place_in_file_system(real_folder, mounts)
    if device and device == folder_device and is_below(place, folder_place):
        return True
    wanted = identity(real_folder)
    return wanted is not None and any(identity(step) == wanted for step in _upwards(real))


def identity(path: str | Path) -> tuple[int, int] | None:
    """Return the device and inode of what is at a path, None where nothing is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _upwards(path: str) -> Sequence[str]:
    found = Path(path)
    return [str(found), *(str(parent) for parent in found.parents)]


def _relative(folder: Path, place: Path) -> str:
    """Return the path of a place below a folder; empty where it is the folder, or is below it by a mount alone."""
    relative = os.path.relpath(os.path.realpath(place), os.path.realpath(folder))
    return "" if relative == "." or relative.startswith("..") else relative


def _advice(folder: Path, place: Path) -> str:
    """Say how a folder inside a watch folder can be left out of it, where it can."""
    relative = _relative(folder, place)
    return f"exclude “{relative}” there, or " if relative else ""
