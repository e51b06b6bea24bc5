"""Reads the pictures of a file in display order, as planes, at their exact times."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from typing import Final

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.frame import VideoFrame

from runtime.closing import Closing
from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media.deinterlace import Deinterlacer, Interlacing, find_interlacing
from runtime.media.picture import Picture
from runtime.media.pixels import PixelPlan, convert_frame, plan_pixels, read_planes
from runtime.media.source import AnyPacket
from runtime.media.streams import VideoStream
from runtime.media.timeline import ContinuousPackets, can_seek, ends_early, open_for, skip_to
from runtime.media.times import TimeMender

_SEEK_EARLIER: Final = Fraction(1, 2)
# Where reading goes on near a picture, what lies before it is read too, so that references and fields are there.
_NEAR_EARLIER: Final = Fraction(2)
# An AVI tells no presentation times, only a slot for each packet: the first picture shown takes the first slot, and so
# on, which is known by reading from the beginning alone.
_TIMELESS: Final = ("avi",)


class VideoReader(Closing):
    """The pictures of one stream; iterate once, and use it as a context manager.

    PTS count in the stream's own time base from its `origin`, or from `start` where that is given. `damaged`,
    `ended_early` (the file tells of a later end) and `warnings` are complete when the iteration has ended.
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
        near: int | None = None,
    ) -> None:
        """Open a stream and decode its first picture.

        Args:
            path: The file.
            stream: The stream, as `probe` told it.
            start: Seconds from the stream's origin; pictures before it are left out.
            end: Seconds from the stream's origin; pictures at or after it are left out.
            threads: Decoder threads.
            interlacing: What is known of it; found out here if None.
            near: A picture's PTS as this reader gives it: reading begins at a key frame some seconds before, where
                the file has one, else at its beginning. Whoever asks checks that the pictures are the same ones.

        Raises:
            UnsupportedMediaError: No decoder knows the codec, or the picture has alpha.
            DecodeError: No picture can be decoded.
        """
        _refuse(path, stream)
        self.stream = stream
        self._refused_packets = self._bad_packets = self._bad_frames = 0
        self.ended_early = False
        self.warnings: list[str] = []
        self.interlacing = interlacing or find_interlacing(path, stream)
        self._begin = stream.origin + (start or 0)
        self._end = None if end is None else stream.origin + end
        self._zero = floor(self._begin / stream.time_base)
        self._step = max(1, round(1 / ((stream.average_rate or 25) * stream.time_base)))
        self._times = TimeMender(first_pts=stream.start_pts or 0, step=self._step)
        self._path = path
        self._last_duration = 0
        self._is_whole = start is None and end is None
        self._resized = 0
        self._container = self._open(path, threads)
        try:
            self._frames = self._decode(path, start, near, threads)
            self._first = next(self._frames, None)
            if self._first is None:
                raise DecodeError(self._nothing(path, start))
            self._plan = plan_pixels(self._first.format.name, stream.colour)
        except BaseException:
            self.close()
            raise
        self.width, self.height = self._first.width, self._first.height
        self.bit_depth, self.chroma, self.colour = self._plan.bit_depth, self._plan.chroma, self._plan.colour
        self._plans: dict[str, PixelPlan] = {self._first.format.name: self._plan}
        self._tell_choices()

    @property
    def damaged(self) -> int:
        """Packets that were refused and pictures that were concealed, so far.

        Most damage inside a packet is told by both the container and the decoder, so the larger count is taken; a
        decoder with several threads may miss some.
        """
        return self._refused_packets + max(self._bad_packets, self._bad_frames)

    @property
    def is_plain(self) -> bool:
        """Whether, so far, every picture came with its own time and size, undamaged: then reading may begin later."""
        timeless = self._container.format.name in _TIMELESS
        return not (self.damaged or self._times.mended or self._resized or timeless)

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

    def _open(self, path: Path, threads: int) -> InputContainer:
        container = open_for(path, (self.stream.index,))
        source = container.streams[self.stream.index]
        self._packets = ContinuousPackets(container, source)
        assert isinstance(source, av.VideoStream)
        source.thread_type = ThreadType.AUTO
        source.thread_count = threads
        return container

    def _decode(self, path: Path, start: Fraction | None, near: int | None, threads: int) -> Iterator[VideoFrame]:
        """Give decoded frames, their times mended, from `start` to `end`."""
        begin = ceil(self._begin / self.stream.time_base) if start else None
        frames = self._decode_all()
        if self._container.format.name in _TIMELESS:
            pass
        elif near is not None:
            place = near + self._zero
            frames = self._seek(path, place * self.stream.time_base - _NEAR_EARLIER, place, threads)
        elif begin is not None:
            frames = self._seek(path, self._begin - _SEEK_EARLIER, begin, threads)
        for frame in self._times.mend(frames):
            assert frame.pts is not None
            if begin is not None and frame.pts < begin:
                continue
            if self._end is not None and frame.pts * self.stream.time_base >= self._end:
                return
            self._bad_frames += frame.is_corrupt
            self._last_duration = frame.duration
            yield frame

    def _seek(self, path: Path, time: Fraction, begin: int, threads: int) -> Iterator[VideoFrame]:
        """Go to a key frame before a time; where the index leads past `begin`, read from the file's beginning."""
        if can_seek(self._container, time):
            target = floor(time / self.stream.time_base)
            with suppress(av.FFmpegError):
                self._container.seek(target, stream=self._container.streams[self.stream.index])
            frames = self._decode_all()
        else:
            frames = self._decode_all(skip_to(iter(self._packets), time, groups=True))
        first = next(frames, None)
        if first is not None and first.pts is not None and first.pts <= begin:
            return chain([first], frames)
        self.close()
        self._refused_packets = self._bad_packets = 0
        self._container = self._open(path, threads)
        return self._decode_all()

    def _decode_all(self, packets: Iterator[AnyPacket] | None = None) -> Iterator[VideoFrame]:
        is_timeless = self._container.format.name in _TIMELESS
        slots: deque[int | None] = deque()
        for packet in packets or self._packets:
            if packet.size:
                slots.append(packet.dts)
                self._bad_packets += packet.is_corrupt
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._refused_packets += 1
                if slots:
                    slots.popleft()
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                slot = slots.popleft() if slots else None
                if is_timeless:
                    frame.pts = frame.dts = slot
                yield frame

    def _all_frames(self) -> Iterator[VideoFrame]:
        first, self._first = self._first, None
        if first is not None:
            yield first
        yield from self._frames

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
        self.warnings += self._packets.describe(self.stream.origin)
        if self._is_whole and self._times.last is not None and not self._packets.jumps:
            end = (self._times.last + max(self._step, self._last_duration)) * self.stream.time_base
            told = ends_early(self._path, self.stream, end)
            if told is not None:
                self.ended_early = True
                self.warnings.append(
                    f"the pictures end after {float(end):.1f} s, but the file tells of {float(told):.1f} s; "
                    "it may be cut short or damaged"
                )
        if self.damaged:
            self.warnings.append(f"{self.damaged} damaged pictures or packets were concealed")
        if self._times.mended:
            self.warnings.append(f"{self._times.mended} pictures had no usable time; mended")
        if self._resized:
            self.warnings.append(f"{self._resized} pictures of another size were scaled to the first's")


def _refuse(path: Path, stream: VideoStream) -> None:
    if stream.codec == "unknown":
        raise UnsupportedMediaError(f"{path} holds pictures of an unknown codec; convert it to H.264 first")
    if stream.has_alpha:
        raise UnsupportedMediaError(
            f"{path} has an alpha channel, which would be lost; flatten it onto a background first"
        )
