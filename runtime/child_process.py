"""Child processes: they end with their parent, have a lower priority, and no network."""

import ctypes
import errno
import os
import platform
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.5

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_TSYNC: Final = 1
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000
_KILL: Final = 0x80000000
_MACHINES: Final = {"x86_64": (0xC000003E, 317, 41), "aarch64": (0xC00000B7, 277, 198)}
"""By machine: its name in seccomp, and the numbers of the calls seccomp and socket."""
_IO_URING_SETUP: Final = 425
_X32: Final = 0x40000000
_LOCAL_FAMILIES: Final = (1, 16)
"""AF_UNIX, which GPU drivers use, and AF_NETLINK, which reaches the kernel alone."""


def end_with_parent(parent: int | None, on_end: Callable[[], None] | None = None) -> None:
    """End this process when its parent ends, even inside native code; a thread checks twice a second.

    `prctl(PR_SET_PDEATHSIG)` would end it with the thread of the parent that started it, which may end much earlier.

    Args:
        parent: The parent's process id, as the parent itself passed it on; None for a process that has no such parent.
        on_end: Called instead of ending at once.
    """
    if parent is not None:
        threading.Thread(target=_watch, args=(parent, on_end), name="relume-parent", daemon=True).start()


def _watch(parent: int, on_end: Callable[[], None] | None) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    if on_end is None:
        os._exit(1)
    on_end()


def lower_priority(*, niceness: int = 10, oom_score: int = 500) -> None:
    """Lower the priority, and be the first process that the kernel kills when memory is short."""
    with suppress(OSError):
        os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(oom_score), encoding="ascii")


def forbid_network(*, kill: bool = False) -> bool:
    """Forbid the network to this process and its children: they open untrusted files with third-party libraries.

    Every socket but AF_UNIX and AF_NETLINK is refused with EACCES, in native code too.

    Args:
        kill: End the process (SIGSYS) instead, so that a test detects the attempt.

    Returns:
        Whether the kernel accepted the filter; other systems have none, and containers may refuse it.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    _, seccomp, _ = _MACHINES[platform.machine()]
    program = _network_filter(*_MACHINES[platform.machine()], _KILL if kill else _REFUSE | errno.EACCES)
    # struct sock_fprog: how many instructions, and where they are; each has eight bytes.
    code = ctypes.create_string_buffer(program, len(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    # With TSYNC, threads that a library has already started are included.
    return bool(library.syscall(seccomp, _SET_MODE_FILTER, _TSYNC, described) == 0)


def _network_filter(machine: int, seccomp: int, socket_call: int, verdict: int) -> bytes:
    """Assemble the program that seccomp runs on each call (linux/filter.h, struct seccomp_data)."""
    del seccomp
    load, equal, least, give = 0x20, 0x15, 0x35, 0x06
    family = [(equal, len(_LOCAL_FAMILIES) - place, 0, value) for place, value in enumerate(_LOCAL_FAMILIES)]
    rows = [
        (load, 0, 0, 4),  # the architecture: a process may make calls of another one, such as 32-bit calls
        (equal, 0, 5 + len(family), machine),
        (load, 0, 0, 0),  # the number of the call
        (least, 3 + len(family), 0, _X32),
        (equal, 2 + len(family), 0, _IO_URING_SETUP),  # it opens sockets without the socket call
        (equal, 0, 2 + len(family), socket_call),
        (load, 0, 0, 16),  # the first argument: the family
        *family,
        (give, 0, 0, verdict),
        (give, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)
