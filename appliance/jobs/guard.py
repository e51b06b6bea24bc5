"""What a worker process asks of the kernel: to die with its supervisor, to be the one that runs out of memory."""

import ctypes
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 10
_OOM_SCORE: Final = 500
_NEAR: Final = 0.8


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


def limit_memory(limit_bytes: int) -> None:
    """Make allocations beyond a limit fail, which ends a job with words instead of a killed process.

    It is the limit on data, not on addresses: engines reserve many more addresses than they use.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


class MemoryGauge:
    """Remembers how near this process came to its limit on memory.

    Libraries tell of a refused allocation in many ways, some of them as "generic error": the gauge says whether an
    error is likely one.
    """

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
        self.limit_bytes = None if soft == resource.RLIM_INFINITY else soft
        self._most_bytes = 0

    def look(self) -> None:
        """Take a reading; nothing is read where there is no limit."""
        if self.limit_bytes is not None:
            with suppress(OSError, ValueError, IndexError):
                pages = int(Path("/proc/self/statm").read_bytes().split()[5])
                self._most_bytes = max(self._most_bytes, pages * resource.getpagesize())

    def was_near(self) -> bool:
        """Tell whether a reading was near the limit."""
        return self.limit_bytes is not None and self._most_bytes >= _NEAR * self.limit_bytes
