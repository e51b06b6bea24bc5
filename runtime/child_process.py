"""What a process beside the main one asks of the kernel.

To end with its parent, to be the first to go without memory, and to be kept from the network.
"""

import ctypes
import errno
import logging
import os
import platform
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 10
_OOM_SCORE: Final = 500

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
"""AF_UNIX, which drivers of GPUs use, and AF_NETLINK, which asks the kernel alone."""


def die_with(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent ends, and end at once if it has ended already."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
            logger.warning("the kernel refused prctl: %s", os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        sys.exit(0)


def give_way() -> None:
    """Let the server go first, and the kernel end this process rather than the server when memory is short."""
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def forbid_network(*, kill: bool = False) -> bool:
    """Keep this process and its children from the network for good: they open files of strangers, and libraries.

    Every socket but AF_UNIX and AF_NETLINK is refused with EACCES, whoever asks for it, native code too.

    Args:
        kill: End the process (SIGSYS) instead, so that a test sees that a library tried.

    Returns:
        Whether the kernel took the filter; it has none on other systems, and containers may refuse it.
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
    # With TSYNC threads that a library has started already are bound too.
    return bool(library.syscall(seccomp, _SET_MODE_FILTER, _TSYNC, described) == 0)


def _network_filter(machine: int, seccomp: int, socket_call: int, verdict: int) -> bytes:
    """Assemble the program that seccomp runs on each call (linux/filter.h, struct seccomp_data)."""
    del seccomp
    load, equal, least, give = 0x20, 0x15, 0x35, 0x06
    family = [(equal, len(_LOCAL_FAMILIES) - place, 0, value) for place, value in enumerate(_LOCAL_FAMILIES)]
    rows = [
        (load, 0, 0, 4),  # the machine: one process may make calls of another, such as 32-bit ones
        (equal, 0, 5 + len(family), machine),
        (load, 0, 0, 0),  # the number of the call
        (least, 3 + len(family), 0, _X32),
        (equal, 2 + len(family), 0, _IO_URING_SETUP),  # it opens sockets without a call of its own
        (equal, 0, 2 + len(family), socket_call),
        (load, 0, 0, 16),  # the first argument: the family
        *family,
        (give, 0, 0, verdict),
        (give, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)
