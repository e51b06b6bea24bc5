"""Finds the place in the source at which an earlier attempt ended, and makes sure that it is the same one."""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from runtime.job import Job, Teller, open_pictures
from runtime.media.pixel_formats import YuvFrame
from runtime.media.video_reader import VideoReader
from runtime.resume.workspace import PictureMark

_TAIL: Final = 8
_TELL_EVERY: Final = 50


class SourceMarks:
    """Notes each picture that passes, until a segment takes the newest of its own.

    Pictures are noted in one thread and taken in another.
    """

    def __init__(self, index: int) -> None:
        """Begin with the picture of an index."""
        self._first = index
        self._marks: deque[PictureMark] = deque()

    def watch(self, pictures: Iterable[YuvFrame]) -> Iterator[YuvFrame]:
        """Pass pictures on and note them."""
        for picture in pictures:
            self._marks.append(mark_picture(picture))
            yield picture

    def take(self, last: int) -> tuple[PictureMark, ...]:
        """Return the marks of the newest pictures before an index, and forget all before it."""
        taken = [self._marks.popleft() for _ in range(last - self._first)]
        self._first = last
        return tuple(taken[-_TAIL:])


class SourceChangedError(Exception):
    """The source does not give the pictures that it gave before."""


def mark_picture(picture: YuvFrame) -> PictureMark:
    """Note a picture."""
    crc = 0
    for plane in picture.planes:
        crc = zlib.crc32(plane.data, crc)
    return PictureMark(picture.pts, crc)


def find_place(
    job: Job, tail: Sequence[PictureMark], frames: int, tell: Teller, *, seek: bool
) -> tuple[VideoReader, Iterator[YuvFrame]]:
    """Open the source so that the next picture is the one after `frames`.

    Args:
        job: Whose source it is.
        tail: The last pictures before the place.
        frames: How many pictures lie before it.
        tell: Told now and then that the job is alive, for a long source takes a while.
        seek: Try a key frame near the place first. Pictures decoded from there are taken only if the tail is the same
            bit for bit, else the source is read from its beginning.

    Returns:
        The reader, to be closed by the caller, and the pictures that follow.

    Raises:
        SourceChangedError: The pictures before the place are not those of before.
    """
    if seek:
        reader = open_pictures(job, near=tail[0].pts)
        try:
            pictures = iter(reader)
            if _advance(job, pictures, tail, None, tell) and reader.is_plain:
                return reader, pictures
        except BaseException:
            reader.close()
            raise
        reader.close()
    reader = open_pictures(job)
    try:
        pictures = iter(reader)
        if not _advance(job, pictures, tail, frames, tell):
            raise SourceChangedError
    except BaseException:
        reader.close()
        raise
    return reader, pictures


def _advance(
    job: Job, pictures: Iterator[YuvFrame], tail: Sequence[PictureMark], frames: int | None, tell: Teller
) -> bool:
    """Go to the picture after the tail; tell whether the tail was met, and after how many pictures if that is known."""
    newest: deque[PictureMark] = deque(maxlen=len(tail))
    for count, picture in enumerate(pictures, 1):
        job.stop.check()
        if count % _TELL_EVERY == 0:
            tell.stage("opening")
        if picture.pts >= tail[0].pts:
            newest.append(mark_picture(picture))
        if picture.pts >= tail[-1].pts:
            return list(newest) == list(tail) and frames in (None, count)
    return False
