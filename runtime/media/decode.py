"""Reads the pictures of a file in display order, as planes, at their exact times."""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.frame import VideoFrame

from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media.deinterlace import Deinterlacer, Interlacing, find_interlacing
from runtime.media.picture import Picture
from runtime.media.pixels import PixelPlan, convert_frame, plan_pixels, read_planes
from runtime.media.probe import VideoStream
from runtime.media.source import open_source, read_packets

_SEEK_EARLIER: Final = Fraction(1, 2)


class VideoReader:
    """The pictures of one stream; iterate once, and use it as a context manager.

    PTS count in the stream's own time base from its `origin`, or from `start` where that is given. `damaged` and
    `warnings` are complete when the iteration has ended.
    """

    def __init__(
        self,
        path: Path,
        stream: VideoStream,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        threads: int = 2,
        interlacing: Interlacing | None = None,
    ) -> None:
        """Open a stream and decode its first picture.

        Args:
            path: The file.
            stream: The stream, as `probe` told it.
            start: Seconds from the stream's origin; pictures before it are left out.
            end: Seconds from the stream's origin; pictures at or after it are left out.
            threads: Decoder threads.
            interlacing: What is known of it; found out here if None.

        Raises:
            UnsupportedMediaError: No decoder knows the codec, or the picture has alpha.
            DecodeError: No picture can be decoded.
        """
        _refuse(path, stream)
        self.stream = stream
        self.damaged = 0
        self.warnings: list[str] = []
        self.interlacing = interlacing or find_interlacing(path, stream)
        self._begin = stream.origin + (start or 0)
        self._end = None if end is None else stream.origin + end
        self._zero = floor(self._begin / stream.time_base)
        self._step = max(1, round(1 / ((stream.average_rate or 25) * stream.time_base)))
        self._last: int | None = None
        self._invented = self._resized = 0
        self._container = self._open(path, start, threads)
        try:
            self._frames = self._decode(start)
            self._first = next(self._frames, None)
            if self._first is None:
                raise DecodeError(self._nothing(path, start))
            self._plan = plan_pixels(self._first.format.name, stream.colour)
        except BaseException:
            self.close()
            raise
        self.width, self.height = self._first.width, self._first.height
        self.bit_depth, self.chroma, self.colour = (
            self._plan.bit_depth,
            self._plan.chroma,
            self._plan.colour,
        )
        self._plans: dict[str, PixelPlan] = {self._first.format.name: self._plan}
        self._tell_choices()

    def __iter__(self) -> Iterator[Picture]:
        """Give the pictures in display order."""
        deinterlacer: Deinterlacer | None = None
        for frame in self._all_frames():
            planar = self._planar(frame)
            if not self.interlacing.interlaced:
                yield self._picture(planar)
                continue
            deinterlacer = deinterlacer or Deinterlacer(planar, self.stream.time_base, self.interlacing)
            yield from map(self._picture, deinterlacer.push(planar))
        if deinterlacer is not None:
            yield from map(self._picture, deinterlacer.push(None))
        self._tell_faults()

    def close(self) -> None:
        """Close the file and its decoder."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, path: Path, start: Fraction | None, threads: int) -> InputContainer:
        container = open_source(path, only=(self.stream.index,))
        source = container.streams[self.stream.index]
        assert isinstance(source, av.VideoStream)
        source.thread_type = ThreadType.AUTO
        source.thread_count = threads
        if start:
            target = floor((self._begin - _SEEK_EARLIER) / self.stream.time_base)
            try:
                container.seek(target, stream=source)
            except av.FFmpegError:
                container.close()
                return self._open(path, None, threads)
        return container

    def _decode(self, start: Fraction | None) -> Iterator[VideoFrame]:
        """Give decoded frames, their PTS made whole, from `start` to `end`."""
        source = self._container.streams[self.stream.index]
        begin = ceil(self._begin / self.stream.time_base) if start else None
        for packet in read_packets(self._container, source):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                frame.pts = self._time(frame)
                if begin is not None and frame.pts < begin:
                    continue
                if self._end is not None and frame.pts * self.stream.time_base >= self._end:
                    return
                self.damaged += frame.is_corrupt
                yield frame

    def _all_frames(self) -> Iterator[VideoFrame]:
        first, self._first = self._first, None
        if first is not None:
            yield first
        yield from self._frames

    def _time(self, frame: VideoFrame) -> int:
        """Give the frame's PTS, invented from the rate where it is missing or runs backwards."""
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None or (self._last is not None and pts <= self._last):
            self._invented += 1
            pts = (self.stream.start_pts or 0) if self._last is None else self._last + self._step
        self._last = pts
        return pts

    def _planar(self, frame: VideoFrame) -> VideoFrame:
        if (frame.width, frame.height) != (self.width, self.height):
            self._resized += 1
            frame = frame.reformat(width=self.width, height=self.height, threads=1)
        plan = self._plans.get(frame.format.name)
        if plan is None:
            plan = plan_pixels(frame.format.name, self.stream.colour)
            self._plans[frame.format.name] = plan
        converted = convert_frame(frame, plan)
        if plan.name != self._plan.name:
            converted = converted.reformat(format=self._plan.name, threads=1)
        return converted

    def _picture(self, frame: VideoFrame) -> Picture:
        assert frame.pts is not None
        return Picture(
            planes=read_planes(frame),
            bit_depth=self.bit_depth,
            chroma=self.chroma,
            pts=frame.pts - self._zero,
            duration=frame.duration or self._step,
        )

    def _nothing(self, path: Path, start: Fraction | None) -> str:
        if start:
            return f"{path} has no picture at or after {float(start):g} s; choose an earlier start"
        return f"{path} has a video stream, but no picture of it can be decoded"

    def _tell_choices(self) -> None:
        if self._plan.note:
            self.warnings.append(self._plan.note)
        if self.colour.guessed:
            self.warnings.append(f"the source does not tell its colour; taken as {self.colour.guessed}")

    def _tell_faults(self) -> None:
        if self.damaged:
            self.warnings.append(f"{self.damaged} damaged pictures or packets were concealed")
        if self._invented:
            self.warnings.append(f"{self._invented} pictures had no usable time; taken from the rate")
        if self._resized:
            self.warnings.append(f"{self._resized} pictures of another size were scaled to the first's")


def _refuse(path: Path, stream: VideoStream) -> None:
    if stream.codec == "unknown":
        raise UnsupportedMediaError(f"{path} holds pictures of an unknown codec; convert it to H.264 first")
    if stream.has_alpha:
        raise UnsupportedMediaError(
            f"{path} has an alpha channel, which would be lost; flatten it onto a background first"
        )
