"""How long files have been unchanged: size and time the same over several scans and the whole hold time."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from appliance.watch.scan import Identity, ScanResult, SeenFile

MIN_SCANS: Final = 3


@dataclass(slots=True)
class _Observation:
    size: int
    mtime_ns: int
    since: float
    scans: int = 1
    is_renamed: bool = False


class StabilityTracker:
    """Measures how long files have been unchanged, from one scan to the next.

    The hold time is monotonic, and a file's own time is only compared with itself: a wrong clock here, or on the
    machine that writes the file, does not matter.
    """

    def __init__(self, hold_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.hold_s = hold_s
        self._clock = clock
        self._observations: dict[str, _Observation] = {}
        self._unfinished: set[Identity] = set()

    def update(self, result: ScanResult, names: Iterable[str]) -> list[SeenFile]:
        """Return the files that are stable now; their hold time then restarts.

        Args:
            result: The scan.
            names: The files to measure.
        """
        now = self._clock()
        stable = []
        observations: dict[str, _Observation] = {}
        for name in names:
            file = result.files.get(name)
            if file is None:
                continue
            observation = self._observe(self._observations.get(name), file, now)
            is_held = observation.scans >= MIN_SCANS and now - observation.since >= self.hold_s
            if is_held or file.is_declared or observation.is_renamed:
                stable.append(file)
            else:
                observations[name] = observation
        self._observations = observations
        self._unfinished = set(result.unfinished)
        return stable

    @property
    def pause_s(self) -> float:
        """The pause before the next scan while files are measured."""
        return min(5.0, max(0.05, self.hold_s / MIN_SCANS))

    def _observe(self, before: _Observation | None, file: SeenFile, now: float) -> _Observation:
        if before is None:
            # A file that had a temporary name in the last scan was complete when it was renamed.
            renamed = file.identity in self._unfinished
            return _Observation(file.size, file.mtime_ns, now, is_renamed=renamed)
        if (before.size, before.mtime_ns) != (file.size, file.mtime_ns):
            return _Observation(file.size, file.mtime_ns, now)
        before.scans += 1
        return before
