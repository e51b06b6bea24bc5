"""Progress of a job: the value that callers see, and the counts of the stages behind it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a job; totals are None where the source does not declare them.

    `fps` is the mean rate of finished frames; `eta_s` is the estimated time left.
    """

    stage: str
    frames_done: int = 0
    frames_total: int | None = None
    fps: float = 0.0
    eta_s: float | None = None
    samples_done: int = 0
    samples_total: int | None = None


class ProgressReporter:
    """Converts the counts of the stages into calls of `on_progress`; frames of earlier attempts count as done."""

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None,
        *,
        frames_total: int | None = None,
        samples_total: int | None = None,
    ) -> None:
        self.started = time.monotonic()
        self.first_frame_s: float | None = None
        self.frames_made = 0
        """Frames of this attempt only."""
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._progress = Progress("opening", frames_total=frames_total, samples_total=samples_total)
        self._frames_started = self.started
        self._earlier = 0

    def stage(self, name: str) -> None:
        """Report the start of a stage."""
        self._report(stage=name)

    def start_frames(self, done: int) -> None:
        """Report the frames of earlier attempts; the frame rate is measured from this call."""
        self._frames_started, self._earlier = time.monotonic(), done
        self._report(frames_done=done)

    def frame(self, done: int) -> None:
        """Report the number of finished frames."""
        now = time.monotonic()
        self.frames_made = done - self._earlier
        if self.frames_made == 1:
            self.first_frame_s = now - self.started
        total = self._progress.frames_total
        fps = self.frames_made / max(1e-6, now - self._frames_started)
        eta_s = None if total is None else max(0.0, (total - done) / fps)
        self._report(frames_done=done, fps=fps, eta_s=eta_s)

    def samples(self, done: int) -> None:
        """Report the number of finished samples of a track; the furthest track counts."""
        self._report(samples_done=max(done, self._progress.samples_done))

    def _report(self, **changes: object) -> None:
        with self._lock:
            self._progress = replace(self._progress, **changes)  # type: ignore[arg-type]
            if self._on_progress is not None:
                self._on_progress(self._progress)
