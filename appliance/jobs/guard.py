"""How near a worker process comes to its limit on memory, which ends its job and not the box."""

import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

_NEAR: Final = 0.8


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
