"""The position in the source at which an earlier attempt ended, found again by comparing frames."""

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from runtime.media.pixel_formats import YuvFrame
from runtime.media.video_reader import VideoReader
from runtime.resume.workspace import FrameCrc

_TAIL: Final = 8

OpenReader = Callable[[int | None], VideoReader]
"""Opens the source, at a key frame near a PTS if one is given."""


class FrameCrcs:
    """The CRCs of decoded frames, until a segment takes its own.

    They are added by one thread and taken by another.
    """

    def __init__(self, index: int) -> None:
        """Start with the frame of an index."""
        self._first = index
        self._crcs: deque[FrameCrc] = deque()

    def watch(self, frames: Iterable[YuvFrame]) -> Iterator[YuvFrame]:
        """Yield frames and add their CRCs."""
        for frame in frames:
            self._crcs.append(compute_crc(frame))
            yield frame

    def take(self, last: int) -> tuple[FrameCrc, ...]:
        """Return the CRCs of the newest frames before an index, and drop all before it."""
        taken = [self._crcs.popleft() for _ in range(last - self._first)]
        self._first = last
        return tuple(taken[-_TAIL:])


class SourceChangedError(Exception):
    """The source does not decode to the same frames as before."""


def compute_crc(frame: YuvFrame) -> FrameCrc:
    """Return the PTS of a frame and the CRC of its samples."""
    crc = 0
    for plane in frame.planes:
        crc = zlib.crc32(plane.data, crc)
    return FrameCrc(frame.pts, crc)


def seek_to_resume_point(
    open_reader: OpenReader,
    tail: Sequence[FrameCrc],
    frames: int,
    *,
    seek: bool,
    on_frame: Callable[[int], None],
) -> tuple[VideoReader, Iterator[YuvFrame]]:
    """Open the source so that the next frame is the one after `frames`.

    Args:
        open_reader: Opens the source.
        tail: The last frames before the resume point.
        frames: The number of frames before it.
        seek: Try a key frame near it first. Frames decoded from there are used only if the tail is bit-identical;
        otherwise the source is read from its beginning.
        on_frame: Called with the number of frames read so far, since reading may take long; it may raise.

    Returns:
        The reader, to be closed by the caller, and the frames that follow.

    Raises:
        SourceChangedError: The frames before the resume point are not those of the earlier attempt.
    """
    if seek:
        reader = open_reader(tail[0].pts)
        try:
            following = iter(reader)
            if _skip(following, tail, None, on_frame) and reader.is_plain:
                return reader, following
        except BaseException:
            reader.close()
            raise
        reader.close()
    reader = open_reader(None)
    try:
        following = iter(reader)
        if not _skip(following, tail, frames, on_frame):
            raise SourceChangedError
    except BaseException:
        reader.close()
        raise
    return reader, following


def _skip(
    frames: Iterator[YuvFrame], tail: Sequence[FrameCrc], expected: int | None, on_frame: Callable[[int], None]
) -> bool:
    """Skip the frames up to the tail; return whether the tail was found, after as many frames as expected."""
    newest: deque[FrameCrc] = deque(maxlen=len(tail))
    for count, frame in enumerate(frames, 1):
        on_frame(count)
        if frame.pts >= tail[0].pts:
            newest.append(compute_crc(frame))
        if frame.pts >= tail[-1].pts:
            return list(newest) == list(tail) and expected in (None, count)
    return False
