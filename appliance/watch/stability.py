"""Tells when a file has been left alone: its size and time unchanged over several looks and the whole hold time."""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

from appliance.watch.scan import Identity, Look, SeenFile

LEAST_LOOKS: Final = 3


@dataclass(slots=True)
class _Watched:
    size: int
    mtime_ns: int
    since: float
    looks: int = 1
    is_renamed: bool = False


class Settling:
    """Remembers the files that are not taken yet, from one look to the next.

    The hold time is measured on a clock that nobody sets, and a file's own time is only compared with itself, so
    neither a wrong clock here nor one on the machine that writes the file matters.
    """

    def __init__(self, hold_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.hold_s = hold_s
        self._clock = clock
        self._files: dict[str, _Watched] = {}
        self._unfinished: set[Identity] = set()

    def update(self, look: Look, *, ignore: Container[str] = ()) -> list[SeenFile]:
        """Take in a look, and give the files that are settled now; one that is not taken is waited for anew.

        Args:
            look: What was found.
            ignore: Names that are dealt with already.
        """
        now = self._clock()
        settled = []
        found: dict[str, _Watched] = {}
        for name, file in look.files.items():
            if name in ignore:
                continue
            state = self._next(self._files.get(name), file, now)
            held = state.looks >= LEAST_LOOKS and now - state.since >= self.hold_s
            if held or file.is_declared or state.is_renamed:
                settled.append(file)
            else:
                found[name] = state
        self._files = found
        self._unfinished = set(look.unfinished)
        return settled

    @property
    def waiting(self) -> int:
        """Count the files that are being waited for."""
        return len(self._files)

    @property
    def pause_s(self) -> float:
        """Say after how long the next look is worth while."""
        return min(5.0, max(0.05, self.hold_s / LEAST_LOOKS))

    def _next(self, before: _Watched | None, file: SeenFile, now: float) -> _Watched:
        if before is None:
            # A file that had a temporary name at the last look has been finished by whoever renamed it.
            renamed = file.identity in self._unfinished
            return _Watched(file.size, file.mtime_ns, now, is_renamed=renamed)
        if (before.size, before.mtime_ns) != (file.size, file.mtime_ns):
            return _Watched(file.size, file.mtime_ns, now)
        before.looks += 1
        return before
