"""What a process beside the main one asks of the kernel: to end with its parent, and to be the first to go without."""

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 10
_OOM_SCORE: Final = 500


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
