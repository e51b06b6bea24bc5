"""Reads the frames of a file in display order, as planes, at their exact times."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, islice
from math import ceil, floor
from pathlib import Path
from typing import Final

import av
from av.video.frame import VideoFrame

from runtime.closing import Closing
from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media.damage import (
    Hole,
    Verdict,
    damage_finder,
    describe_holes,
    join_holes,
    with_following,
)
from runtime.media.deinterlace import Deinterlacer, Interlacing, find_interlacing
from runtime.media.demux import AnyPacket
from runtime.media.file_clock import declared_end_pts, ends_early
from runtime.media.media_info import Crop, VideoStream
from runtime.media.pixel_formats import (
    PixelPlan,
    YuvFrame,
    convert_frame,
    crop_planes,
    fit_frame,
    fitting_crop,
    has_alpha,
    is_opaque,
    pad_frame,
    plan_pixels,
    read_planes,
)
from runtime.media.side_data import read_side_entries
from runtime.media.timeline import ContinuousPackets, can_seek, open_for, skip_to
from runtime.media.timestamps import TimestampFixer
from runtime.media.video_decoder import VideoDecoder

_SQUARE_PIXELS: Final = ("vp8", "vp9", "av1")
_SEEK_EARLIER: Final = Fraction(1, 2)
# When reading resumes near a frame, earlier frames are read too, so that references and fields are available.
_NEAR_EARLIER: Final = Fraction(2)
# An AVI stores no presentation times, only a slot per packet: the first frame shown takes the first slot, and so on,
# which requires reading from the beginning.
_TIMELESS: Final = ("avi",)


class VideoReader(Closing):
    """The frames of one stream; iterate once, and use it as a context manager.

    PTS count in the stream's own time base from its `origin`, or from `start` if given. `holes` (its damaged
    places), `early_end` (a text, if the file declares a later end) and `warnings` are complete when the
    iteration has ended.
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
        """Open a stream and decode its first frame.

        Args:
            path: The file.
            stream: The stream, as returned by `probe`.
            start: Seconds from the stream's origin; earlier frames are skipped.
            end: Seconds from the stream's origin; frames at or after it are skipped.
            threads: Decoder threads.
            interlacing: Known interlacing; detected here if None.
            near: A frame's PTS as returned by this reader: reading starts at a key frame some seconds before it, if the
            file has one, else at the beginning. The caller checks that the frames are the same.

        Raises:
            UnsupportedMediaError: No decoder knows the codec, or a frame is not opaque.
            DecodeError: No frame can be decoded.
        """
        _refuse(path, stream)
        self.stream = stream
        self._holes: list[Hole] = []
        self.early_end = ""
        self.warnings: list[str] = []
        self.interlacing = interlacing or find_interlacing(path, stream)
        self._begin = stream.origin + (start or 0)
        self._end = None if end is None else stream.origin + end
        self._zero = floor(self._begin / stream.time_base)
        self._step = max(1, round(1 / ((stream.average_rate or 25) * stream.time_base)))
        self._last_duration = 0
        self._is_whole = start is None and end is None
        self._resized = 0
        self._path = path
        self._sought: Fraction | None = None
        self._open(threads)
        try:
            end_pts = declared_end_pts(self._container, stream)
            self._times = TimestampFixer(
                first_pts=stream.start_pts or 0,
                step=self._step,
                end_pts=end_pts,
                zero=None if start else self._zero,
            )
            self._frames = self._decode(start, near, threads)
            self._first = next(self._frames, None)
            if self._first is None:
                raise DecodeError(self._nothing(path, start))
            self._plan = plan_pixels(self._first.format.name, stream.colour)
        except BaseException:
            self.close()
            raise
        sizes = (self._first.width, self._first.height), (stream.width, stream.height)
        self._coded_size = sizes[0] if stream.crop is not None else max(sizes, key=lambda size: size[0] * size[1])
        self._crop = fitting_crop(stream.crop, *self._coded_size)
        crop = self._crop or Crop()
        self.width = self._coded_size[0] - crop.left - crop.right
        self.height = self._coded_size[1] - crop.top - crop.bottom
        self.bit_depth, self.chroma, self.colour = self._plan.bit_depth, self._plan.chroma, self._plan.colour
        self._plans: dict[str, PixelPlan] = {self._first.format.name: self._plan}
        self._report_choices()

    @property
    def holes(self) -> tuple[Hole, ...]:
        """The damaged places so far; adjacent ones are joined."""
        return join_holes(self._holes)

    @property
    def ended_early(self) -> bool:
        """Whether the file declares a later end."""
        return bool(self.early_end)

    @property
    def is_plain(self) -> bool:
        """Whether every frame so far had its own time, the same size and no damage, so that reading may start later."""
        timeless = self._container.format.name in _TIMELESS
        return not (self._holes or self._times.repaired or self._resized or timeless)

    def __iter__(self) -> Iterator[YuvFrame]:
        """Yield the frames in display order."""
        deinterlacer: Deinterlacer | None = None
        for frame in self._all_frames():
            planar = self._planar(frame)
            if not self.interlacing.watched:
                yield self._convert(planar)
                continue
            deinterlacer = deinterlacer or Deinterlacer(planar, self.stream.time_base, self.interlacing)
            yield from map(self._convert, deinterlacer.push(planar))
        if deinterlacer is not None:
            yield from map(self._convert, deinterlacer.push(None))
        self._report_faults()

    def close(self) -> None:
        """Close the file and its decoder."""
        self._container.close()

    def _open(self, threads: int) -> None:
        self._container = open_for(self._path, (self.stream.index,))
        source = self._container.streams[self.stream.index]
        self._packets = ContinuousPackets(self._container, source)
        assert isinstance(source, av.VideoStream)
        self._decoder = VideoDecoder(source, threads)
        self._damage = damage_finder(self._container, self.stream.time_base, step=self._step, reorders=True)
        self._verdicts: deque[Verdict] = deque()

    def _decode(self, start: Fraction | None, near: int | None, threads: int) -> Iterator[VideoFrame]:
        """Yield decoded frames from `start` to `end`, with repaired times."""
        begin = ceil(self._begin / self.stream.time_base) if start else None
        frames = self._decode_from(None)
        if self._container.format.name in _TIMELESS:
            pass
        elif near is not None:
            place = near + self._zero
            frames = self._seek(place * self.stream.time_base - _NEAR_EARLIER, place, threads)
        elif begin is not None:
            frames = self._seek(self._begin - _SEEK_EARLIER, begin, threads)
        for frame in self._times.mend(frames):
            verdict = self._verdicts.popleft()
            assert frame.pts is not None
            if begin is not None and frame.pts < begin:
                continue
            if self._end is not None and frame.pts * self.stream.time_base >= self._end:
                return
            self._note(frame, verdict)
            self._last_duration = frame.duration
            yield frame
        tail = self._damage.finish()
        if tail is not None:
            self._add_hole(*tail)

    def _note(self, frame: VideoFrame, verdict: Verdict) -> None:
        """Record the damage of a frame by its repaired time."""
        assert frame.pts is not None
        if verdict.missing:
            self._add_hole(frame.pts - verdict.missing, verdict.missing)
        if verdict.bad:
            self._add_hole(frame.pts, frame.duration or self._step)

    def _add_hole(self, pts: int, duration: int) -> None:
        zero = floor(self.stream.origin / self.stream.time_base)
        self._holes.append(Hole(self.stream.index, pts - zero, duration, self.stream.time_base))

    def _seek(self, time: Fraction, begin: int, threads: int) -> Iterator[VideoFrame]:
        """Seek to a key frame before a time; if the index leads past `begin`, read from the beginning."""
        self._sought = time
        frames = self._decode_from(time)
        first = next(frames, None)
        if first is not None and first.pts is not None and first.pts <= begin:
            return chain([first], frames)
        self.close()
        self._sought = None
        self._open(threads)
        return self._decode_from(None)

    def _decode_from(self, time: Fraction | None) -> Iterator[VideoFrame]:
        """Return the frames from a key frame before a time on, in seconds on the file's clock; all of them if None."""
        if time is None:
            return self._decode_all(self._packets)
        if not can_seek(self._container, self._path, time):
            return self._decode_all(skip_to(iter(self._packets), time, groups=True))
        with suppress(av.FFmpegError):
            target = floor(time / self.stream.time_base)
            self._container.seek(target, stream=self._container.streams[self.stream.index])
        return self._decode_all(self._packets)

    def _decode_all(self, packets: Iterable[AnyPacket]) -> Iterator[VideoFrame]:
        """Yield the frames in presentation order, and record the damage of each."""
        is_timeless = self._container.format.name in _TIMELESS
        slots: deque[int | None] = deque()
        count = 0
        for packet, following in with_following(packets):
            self._damage.take(packet, following)
            if packet.size:
                slots.append(packet.dts)
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:
                if not packet.size and self._decoder.threads > 1:
                    yield from self._decode_end_again(count)
                    return
                self._damage.refuse(self._decoder.refused or packet)
                if slots:
                    slots.popleft()
                continue
            for frame in frames:
                count += 1
                slot = slots.popleft() if slots else None
                if is_timeless:
                    frame.pts = frame.dts = slot
                self._verdicts.append(self._damage.judge(frame))
                yield frame

    def _decode_end_again(self, count: int) -> Iterator[VideoFrame]:
        """Yield the frames after `count`, decoded by one thread.

        On an error PyAV drops the frames that it took from the decoder before: the last ones of all threads.
        """
        verdicts = self._verdicts
        self.close()
        self._open(1)
        frames = self._decode_from(self._sought)
        for _ in islice(frames, count):
            pass
        self._verdicts = verdicts
        yield from frames

    def _all_frames(self) -> Iterator[VideoFrame]:
        first, self._first = self._first, None
        if first is not None:
            yield first
        yield from self._frames

    def _planar(self, frame: VideoFrame) -> VideoFrame:
        if (frame.width, frame.height) != self._coded_size:
            self._resized += 1
            frame = self._fit(frame)
        plan = self._plans.get(frame.format.name)
        if plan is None:
            plan = plan_pixels(frame.format.name, self.stream.colour)
            self._plans[frame.format.name] = plan
        if plan.alpha and not is_opaque(frame):
            raise UnsupportedMediaError(self._transparent(frame))
        converted = convert_frame(frame, plan)
        if plan.name != self._plan.name:
            converted = converted.reformat(format=self._plan.name, threads=1)
        if (converted.width, converted.height) != self._coded_size:
            converted = pad_frame(converted, *self._coded_size, full_range=self.colour.full_range)
        return converted

    def _fit(self, frame: VideoFrame) -> VideoFrame:
        """Scale a frame of another size to the reader's.

        Broadcasts change only the number of columns and the pixel aspect ratio, so the display aspect ratio stays.
        """
        width, height = self._coded_size
        has_shapes = self.stream.codec not in _SQUARE_PIXELS and frame.height == height
        return fit_frame(frame, width, height, stretches=has_shapes)

    def _convert(self, frame: VideoFrame) -> YuvFrame:
        assert frame.pts is not None
        duration = frame.duration or self._step
        if self._end is not None:
            duration = min(duration, max(1, ceil(self._end / self.stream.time_base) - frame.pts))
        planes = read_planes(frame)
        return YuvFrame(
            planes=planes if self._crop is None else crop_planes(planes, self._crop),
            bit_depth=self.bit_depth,
            chroma=self.chroma,
            pts=frame.pts - self._zero,
            duration=duration,
            side_data=read_side_entries(frame),
        )

    def _transparent(self, frame: VideoFrame) -> str:
        assert frame.pts is not None
        time = float((frame.pts * self.stream.time_base) - self.stream.origin)
        return (
            f"{self._path} has an alpha channel, which would be lost, and its frame at {time:.3f} s is not opaque; "
            "flatten it onto a background first"
        )

    def _nothing(self, path: Path, start: Fraction | None) -> str:
        if start:
            return f"{path} has no frame at or after {float(start):g} s; choose an earlier start"
        return f"{path} has a video stream, but no frame of it can be decoded"

    def _report_choices(self) -> None:
        if self._plan.note:
            self.warnings.append(self._plan.note)
        if self.colour.guessed:
            self.warnings.append(f"no colour information in the source; assumed {self.colour.guessed}")

    def _report_faults(self) -> None:
        self.warnings += self._packets.describe(self.stream.origin)
        if self._is_whole and self._times.last is not None and not self._packets.jumps:
            end = (self._times.last + max(self._step, self._last_duration)) * self.stream.time_base
            declared = None
            with suppress(DecodeError):  # a source that was removed meanwhile was read to the end
                declared = ends_early(self._container, self._path, self.stream, end)
            if declared is not None:
                self.early_end = (
                    f"the video ends after {float(end):.1f} s, but the file declares {float(declared):.1f} s"
                )
                self.warnings.append(f"{self.early_end}; it may be truncated or damaged")
        self.warnings += self._damage.warnings()
        if self._holes:
            where = describe_holes(self.holes)
            self.warnings.append(f"the video is damaged {where}; everything that could be decoded was kept")
        if self._times.repaired:
            self.warnings.append(f"{self._times.repaired} frames had no usable timestamp; repaired")
        if self._resized:
            size = f"{self.width}x{self.height}"
            self.warnings.append(f"{self._resized} frames of a different size were scaled to {size}")


def _refuse(path: Path, stream: VideoStream) -> None:
    if stream.codec == "unknown":
        raise UnsupportedMediaError(f"{path} has video in an unknown codec; convert it to H.264 first")
    if stream.has_alpha and not has_alpha(stream.pixel_format):
        # The alpha of VP9 is stored beside its frames, where FFmpeg's decoder ignores it.
        raise UnsupportedMediaError(
            f"{path} has an alpha channel, which would be lost; flatten it onto a background first"
        )
