"""Encodes frames into packets of one stream of the result."""

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.codec.context import Flags, ThreadType
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from runtime.errors import EncodeError
from runtime.media.codecs import CODECS, CodecName, VideoCodec, carries_hdr, encoder_options
from runtime.media.colour import Colour, HdrMetadata, colour_of_result
from runtime.media.demux import AnyPacket
from runtime.media.pixel_formats import Chroma, YuvFrame, planar_format, write_planes
from runtime.media.side_data import SideEntry, add_messages, is_carried, is_padding
from runtime.media.verify import CarriedData
from runtime.media.video_reader import VideoReader
from runtime.options import Speed

_KEY_FRAME_EVERY_S: Final = 5
_PROGRESSIVE: Final = 1

# For so few frames x265 returns uninitialised DTS; they are coded in presentation order.
_TIMELESS_FRAMES: Final = 2

_BT709: Final = Colour("bt709", False)

# SVT-AV1 writes its settings to stderr itself, past FFmpeg's log; 1 leaves only errors.
os.environ.setdefault("SVT_LOG", "1")


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How frames are encoded; `bit_depth` and `chroma` are those of the result.

    `crf` None is the codec's own default; `rotation` is counter-clockwise degrees and only used if `display_matrix` is
    None.
    """

    codec: CodecName
    width: int
    height: int
    time_base: Fraction
    average_rate: Fraction | None
    bit_depth: int = 8
    chroma: Chroma = "420"
    crf: int | None = None
    speed: Speed = "fast"
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0
    display_matrix: tuple[int, ...] | None = None
    colour: Colour = _BT709
    hdr: HdrMetadata | None = None
    threads: int = 2


def settings_for(
    reader: VideoReader,
    codec: CodecName,
    *,
    width: int,
    height: int,
    crf: int | None = None,
    speed: Speed = "fast",
    threads: int = 2,
) -> EncodeSettings:
    """Return the settings that keep all properties of a source that the codec supports, at a new size."""
    stream, held = reader.stream, CODECS[codec]
    return EncodeSettings(
        codec=codec,
        width=width,
        height=height,
        time_base=stream.time_base,
        average_rate=stream.average_rate,
        bit_depth=reader.bit_depth if reader.bit_depth in held.depths else held.depths[-1],
        chroma=reader.chroma if reader.chroma in held.chromas else held.chromas[0],
        crf=crf,
        speed=speed,
        sample_aspect=stream.sample_aspect,
        rotation=stream.rotation,
        display_matrix=_moved(stream.display_matrix, Fraction(width, reader.width)),
        colour=colour_of_result(reader.colour, source=(reader.width, reader.height), result=(width, height)),
        hdr=stream.hdr,
        threads=threads,
    )


class VideoEncoder:
    """One video stream of a result; `encode` and `flush` may be called from one thread at a time.

    The codec is open when the constructor returns, so another thread may write the container's header.
    """

    def __init__(self, container: OutputContainer, settings: EncodeSettings) -> None:
        """Add the stream to a container.

        Raises:
            EncodeError: The codec refuses the size, or the container refuses the codec.
        """
        self.settings = settings
        self.warnings: list[str] = []
        codec = CODECS[settings.codec]
        self._width, self._height = self._coded_size(codec)
        self._durations: dict[int, int] = {}
        self._side_data: dict[int, list[SideEntry]] = {}
        self._carried: dict[tuple[str, bytes], int] = {}
        self._held: AnyPacket | None = None
        self._first_pts: int | None = None
        self._first_dts: int | None = None
        self._end_pts = 0
        self._frames = 0
        self._named: set[str] = set()
        self._format = planar_format(settings.chroma, settings.bit_depth)
        try:
            self.stream = self._add_stream(container, codec)
            self.stream.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            raise EncodeError(
                f"{settings.codec} cannot be written at {settings.width}x{settings.height} "
                f"{self._format} into {container.format.name}: {error}"
            ) from error
        self._converts = False
        if settings.colour.added:
            self.warnings.append(settings.colour.added)
        if settings.hdr is not None and not carries_hdr(codec):
            self.warnings.append(f"HDR10 metadata not kept: {codec.name} cannot store it")

    def encode(self, image: YuvFrame) -> list[AnyPacket]:
        """Encode one frame and return the packets that are ready."""
        frame = write_planes(image, width=self._width, height=self._height)
        if frame.format.name != self._format:
            frame = self._convert(frame, image)
        # ProRes and FFV1 write the colour of the frame, other encoders that of their context.
        colour, matrix, transfer = (
            self.settings.colour,
            self.settings.colour.matrix_code,
            self.settings.colour.transfer_code,
        )
        if self.settings.codec == "prores":
            # Its encoder writes BT.709 for unknown codes; these are known equivalents.
            matrix, transfer = {5: 6}.get(matrix, matrix), {6: 1}.get(transfer, transfer)
        frame.colorspace, frame.color_range = matrix, colour.range_code
        frame.color_primaries, frame.color_trc = colour.primaries_code, transfer
        frame.pts, frame.duration = image.pts, image.duration
        frame.time_base = self.settings.time_base
        self._durations[image.pts] = image.duration
        self._take_side_data(image)
        self._end_pts = image.pts + image.duration
        self._first_pts = image.pts if self._first_pts is None else self._first_pts
        self._frames += 1
        return self._send(frame)

    def flush(self, *, closes: bool = True) -> list[AnyPacket]:
        """Return the packets that are left; `closes` unless another encoder's frames follow in the stream."""
        packets = self._send(None)
        if self._held is not None:
            if self.settings.codec == "hevc" and self._frames <= _TIMELESS_FRAMES:
                for packet in (*packets, self._held):
                    packet.dts = packet.pts
                self._first_dts = self._first_pts
            packets.append(self._closing(self._held) if closes else self._held)
        return packets

    def _send(self, frame: VideoFrame | None) -> list[AnyPacket]:
        """Encode, and hold the newest packet back: the last one closes the stream."""
        try:
            packets = self.stream.encode(frame)
        except av.FFmpegError as error:
            raise EncodeError(f"{self.settings.codec} encoder failed: {error}") from error
        ready: list[AnyPacket] = []
        for packet in map(self._with_side_data, packets):
            # Not every encoder preserves durations through its look-ahead.
            packet.duration = self._durations.pop(packet.pts or 0, packet.duration or 0)
            if self._held is None:
                self._first_dts = packet.dts
            else:
                ready.append(self._held)
            self._held = packet
        return ready

    @property
    def end_pts(self) -> int:
        """The end of the last frame so far."""
        return self._end_pts

    def carried_data(self) -> tuple[CarriedData, ...]:
        """Return the side data written into packets so far."""
        return tuple(CarriedData(name, marker.hex(), count) for (name, marker), count in self._carried.items())

    def _take_side_data(self, frame: YuvFrame) -> None:
        """Keep the side data for the frame's packet, and report unsupported kinds once."""
        for entry in frame.side_data:
            if is_carried(entry, self.settings.codec):
                self._side_data.setdefault(frame.pts, []).append(entry)
                key = entry.name, entry.marker
                self._carried[key] = self._carried.get(key, 0) + 1
            elif entry.name not in self._named and not is_padding(entry):
                self._named.add(entry.name)
                self.warnings.append(f"{entry.name}: not kept, {self.settings.codec} cannot store it")

    def _with_side_data(self, packet: AnyPacket) -> AnyPacket:
        entries = self._side_data.pop(packet.pts or 0, None)
        if entries is None:
            return packet
        result: AnyPacket = Packet(add_messages(bytes(packet), entries, self.settings.codec))
        result.pts, result.dts, result.duration = packet.pts, packet.dts, packet.duration
        result.time_base, result.stream, result.is_keyframe = packet.time_base, self.stream, packet.is_keyframe
        for side in packet.iter_sidedata():
            result.set_sidedata(side)
        return result

    def _closing(self, packet: AnyPacket) -> AnyPacket:
        if self._first_dts is not None and self._first_pts is not None:
            close_stream(packet, first_pts=self._first_pts, first_dts=self._first_dts, end_pts=self._end_pts)
        return packet

    def _convert(self, frame: VideoFrame, image: YuvFrame) -> VideoFrame:
        """Convert a frame to a depth and chroma that the codec supports; warn once if that loses information."""
        settings, given = self.settings, (image.bit_depth, image.chroma)
        held = (settings.bit_depth, settings.chroma)
        if not self._converts and (given[0] > held[0] or given[1] > held[1]):
            self.warnings.append(f"{settings.codec} cannot store {_words(*given)}; converted to {_words(*held)}")
        self._converts = True
        return frame.reformat(
            format=self._format,
            src_color_range=settings.colour.range_code,
            dst_color_range=settings.colour.range_code,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=1,
        )

    def _add_stream(self, container: OutputContainer, codec: VideoCodec) -> av.VideoStream:
        settings = self.settings
        options = encoder_options(
            codec,
            crf=settings.crf,
            speed=settings.speed,
            threads=settings.threads,
            hdr=settings.hdr,
            chroma=settings.chroma,
            pixels=settings.width * settings.height,
        )
        if settings.chroma == "420":
            # That of `YuvLayout`, with which the planes were computed.
            options |= {"chroma_sample_location": "left"}
        rate = (settings.average_rate or Fraction(30)).limit_denominator(100_000)
        stream = container.add_stream(codec.encoder, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = self._width, self._height, self._format
        context.time_base = stream.time_base = settings.time_base
        context.gop_size = max(1, round(rate * _KEY_FRAME_EVERY_S))
        context.sample_aspect_ratio = settings.sample_aspect
        context.color_range = settings.colour.range_code
        context.colorspace = settings.colour.matrix_code
        context.color_primaries = settings.colour.primaries_code
        context.color_trc = settings.colour.transfer_code
        context.field_order = _PROGRESSIVE
        context.flags |= Flags.frame_duration
        context.thread_count = settings.threads
        context.thread_type = ThreadType.SLICE if codec.name == "ffv1" else ThreadType.FRAME
        if settings.display_matrix is not None:
            stream.set_display_matrix(settings.display_matrix)
        elif settings.rotation:
            stream.set_display_rotation(settings.rotation)
        return stream

    def _coded_size(self, codec: VideoCodec) -> tuple[int, int]:
        """Round the size up to whole chroma samples, as H.264 and HEVC need."""
        width, height = self.settings.width, self.settings.height
        if min(width, height) < codec.smallest:
            raise EncodeError(
                f"the frame is {width}x{height}, expected at least {codec.smallest} pixels per side "
                f"for {codec.name}; upscale it first"
            )
        if not codec.needs_whole_chroma:
            return width, height
        columns = 1 if self.settings.chroma == "444" else 2
        rows = 2 if self.settings.chroma == "420" else 1
        coded = -(-width // columns) * columns, -(-height // rows) * rows
        if coded != (width, height):
            self.warnings.append(
                f"{codec.name} needs even sizes at 4:{self.settings.chroma[1]}:{self.settings.chroma[2]}; "
                f"{width}x{height} was extended to {coded[0]}x{coded[1]} by repeating the last row or column"
            )
        return coded


def close_stream(packet: AnyPacket, *, first_pts: int, first_dts: int, end_pts: int) -> None:
    """Set the duration of the packet that is coded last, so that the track ends where its last frame does.

    The durations of an MP4's samples add up along the DTS, so the last one gets the remainder. Matroska,
    and the header of an MP4, add it to the packet's PTS instead, which must not reach past the end. If its DTS lags too
    far behind for both (a variable rate), it is decoded later, but never after its PTS.
    """
    if packet.dts is None or packet.pts is None:
        return
    is_last_shown = packet.pts + (packet.duration or 0) >= end_pts
    late = (packet.pts - packet.dts) - (first_pts - first_dts)
    packet.dts += max(0, late)
    missing = end_pts - first_pts - (packet.dts - first_dts)
    packet.duration = max(missing, end_pts - packet.pts if is_last_shown else 1)


def _words(bit_depth: int, chroma: str) -> str:
    return f"{bit_depth} bits in 4:{chroma[1]}:{chroma[2]}"


def _moved(matrix: tuple[int, ...] | None, scale: Fraction) -> tuple[int, ...] | None:
    """Scale the translation of a display matrix with the frame."""
    if matrix is None:
        return None
    return (*matrix[:6], round(matrix[6] * scale), round(matrix[7] * scale), matrix[8])
