"""Repairs the times of decoded frames: missing ones, outliers, and clocks that are set back inside a file."""

from collections.abc import Iterable, Iterator
from typing import Final

from av.video.frame import VideoFrame

_JITTER_STEPS: Final = 10


class TimestampFixer:
    """Assigns every frame a PTS later than the one before; `repaired` counts those without a usable one.

    A frame is held back until the next one is known, to distinguish an outlier in a damaged place from a clock that was
    reset.
    """

    def __init__(self, *, first_pts: int, step: int, end_pts: int | None = None, zero: int | None = None) -> None:
        """Start a stream.

        Args:
            first_pts: The time of the first frame if it has none.
            step: The time between frames if none is known.
            end_pts: The latest end of the last frame, if known: durations of reordered frames are stored in coding
            order, so that of the last one may belong to another.
            zero: Time zero: a first frame that starts before it is shown from there.
        """
        self.repaired = 0
        self.last: int | None = None
        self._first, self._step, self._jump = first_pts, step, 0
        self._end, self._zero = end_pts, zero

    def mend(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield the frames with their PTS set, delayed by one."""
        held: VideoFrame | None = None
        for frame in frames:
            if held is not None:
                yield self._settle(held, _stamp(frame))
            held = frame
        if held is not None:
            last = self._settle(held, None)
            if self._end is not None and not self.repaired and self._end > (last.pts or 0):
                last.duration = min(last.duration, self._end - (last.pts or 0))
            yield last

    def _settle(self, frame: VideoFrame, following: int | None) -> VideoFrame:
        pts = _stamp(frame)
        if self.last is None:
            self.repaired += pts is None
            pts = self._first if pts is None else pts
            if self._zero is not None and pts < self._zero and (following is None or following > self._zero):
                pts = self._zero
            frame.pts = self.last = pts
            return frame
        pts = None if pts is None else pts + self._jump
        following = None if following is None else following + self._jump
        if pts is None or pts <= self.last or self._is_stray(pts, following):
            self.repaired += 1
            pts = self._invent(pts, following)
        frame.pts = self.last = pts
        return frame

    def _is_stray(self, pts: int, following: int | None) -> bool:
        assert self.last is not None
        far = pts - self.last > _JITTER_STEPS * self._step
        return far and following is not None and self.last < following < pts

    def _invent(self, pts: int | None, following: int | None) -> int:
        assert self.last is not None
        follows = self.last + self._step
        goes_on = following is not None and following > self.last
        if pts is not None and not goes_on and self.last - pts > _JITTER_STEPS * self._step:
            # The clock was set back: another recording follows in the same file.
            self._jump += follows - pts
            return follows
        if pts is not None and not goes_on:
            return self.last + 1
        return max(self.last + 1, min(follows, following - 1)) if following is not None else follows


def _stamp(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts
