"""What the kernel says of mounts: which file system a path is on, and whether other machines write to it too."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

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
        """Tell whether changes by other machines may go unnoticed by this one's kernel.

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
    """Give the mount that a real path is on."""
    inside = [mount for mount in mounts if is_below(path, mount.point)]
    return max(inside, key=lambda mount: len(mount.point), default=None)


def place_in_file_system(path: str, mounts: tuple[Mount, ...]) -> tuple[str, str]:
    """Give the file system of a real path and the place in it, the same for every bind mount that shows it."""
    mount = mount_of(path, mounts)
    if mount is None:
        return "", path
    relative = os.path.relpath(path, mount.point)
    return mount.device, str(PurePosixPath(os.path.normpath(os.path.join(mount.root, relative))))


def is_below(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies in it, by their names alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _unescape(text: str) -> str:
    r"""Undo the octal escapes of mountinfo: blank, tab, newline and backslash."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
