"""Samples a stream before it is enhanced: frames from several places, and the sizes that packets declare."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Final

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from runtime.errors import UnsupportedMediaError
from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.media_info import MediaInfo, VideoStream
from runtime.media.pixel_formats import has_alpha, is_opaque

_PLACES: Final = tuple(Fraction(number, 8) for number in range(8))
_MOST_PACKETS: Final = 100
# Containers whose index stores one size per stream.
_ONE_SIZE: Final = ("mov", "avi", "mxf", "dv", "webp")
_VP9_SYNC: Final = 0x498342
_SITINGS: Final = {
    "left": (0.5, 0.0), "center": (0.5, 0.5), "topleft": (0.0, 0.0), "top": (0.0, 0.5), "bottomleft": (1.0, 0.0),
    "bottom": (1.0, 0.5),
}  # fmt: skip
_CHROMA_LOCATION: Final = re.compile(r" cl:(\w+)")
_LOG: Final = Lock()
"""FFmpeg has one log for the whole process."""


def look_ahead(info: MediaInfo, stream: VideoStream) -> VideoStream:
    """Return a stream with the size of its largest sampled frames.

    Raises:
        UnsupportedMediaError: Frames have alpha and are not opaque.
    """
    path, names = info.path, info.container.split(",")
    sizes = [(stream.width, stream.height)]
    may_change = not set(names) & set(_ONE_SIZE) and stream.crop is None
    if may_change and stream.codec in ("vp8", "vp9"):
        sizes += _declared_sizes(path, stream)
    elif may_change or has_alpha(stream.pixel_format):
        for frame in sample_frames(path, stream):
            if may_change:
                sizes.append((frame.width, frame.height))
            if has_alpha(frame.format.name) and not is_opaque(frame):
                raise UnsupportedMediaError(
                    f"{path} has an alpha channel, which would be lost, and frames that are not opaque; "
                    "flatten it onto a background first"
                )
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return replace(stream, width=width, height=height)


def sample_frames(path: Path, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode a frame in each of several places of a stream."""
    with open_source(path, only=(stream.index,)) as container:
        source = container.streams[stream.index]
        assert isinstance(source, av.VideoStream)
        source.thread_count = 1
        for place in _PLACES:
            if place and container.duration is None:
                return
            if place:
                with suppress(av.FFmpegError):
                    container.seek(int((container.start_time or 0) + (container.duration or 0) * place))
            for count, packet in enumerate(read_packets(container, source)):
                frames: list[VideoFrame] = []
                with suppress(av.FFmpegError):
                    frames = source.codec_context.decode(packet)
                if frames:
                    yield frames[0]
                if frames or count > _MOST_PACKETS:
                    break


def find_siting(path: Path, stream: VideoStream) -> tuple[float, float]:
    """Return where the first chroma sample of a 4:2:0 frame lies, rows then columns, in luma pixels; left if untold."""
    return _SITINGS.get(declared_siting(path, stream) or "", _SITINGS["left"])


def declared_siting(path: Path, stream: VideoStream) -> str | None:
    """Return FFmpeg's name for the siting of chroma in a stream's first frame, None where there is none.

    PyAV 18.1 does not expose `AVFrame.chroma_location`; FFmpeg's filter `showinfo` logs it.
    """
    frame = next(sample_frames(path, stream), None)
    if frame is None:
        return None
    graph = Graph()
    graph.threads = 1
    buffer = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=stream.time_base)
    graph.link_nodes(buffer, graph.add("showinfo", "checksum=0"), graph.add("buffersink")).configure()
    with _LOG:
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture() as lines:
                graph.vpush(frame)
                graph.vpull()
        finally:
            av.logging.set_level(None)
    match = _CHROMA_LOCATION.search("".join(line[2] for line in lines))
    return match.group(1) if match is not None and match.group(1) in _SITINGS else None


def _declared_sizes(path: Path, stream: VideoStream) -> Iterator[tuple[int, int]]:
    """Return the sizes in the packets of VP8 or VP9, for example of a call whose frame size follows the bandwidth."""
    read = _read_vp8_size if stream.codec == "vp8" else _read_vp9_size
    with open_source(path, only=(stream.index,)) as container:
        for packet in read_packets(container, container.streams[stream.index]):
            size = read(packet) if packet.size else None
            if size is not None and min(size) > 0:
                yield size


def _read_vp8_size(packet: AnyPacket) -> tuple[int, int] | None:
    """Read the size in a key frame's header (RFC 6386, 9.1)."""
    head = bytes(memoryview(packet)[:10])
    if len(head) < 10 or head[0] & 1 or head[3:6] != b"\x9d\x01\x2a":
        return None
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def _read_vp9_size(packet: AnyPacket) -> tuple[int, int] | None:
    """Read the size in an uncompressed header (VP9 bitstream specification, 6.2), if it has one."""
    head = int.from_bytes(bytes(memoryview(packet)[:24]).ljust(24, b"\0"))
    place = 24 * 8

    def take(count: int) -> int:
        nonlocal place
        place -= count
        return head >> place & (1 << count) - 1

    if _goes_to_vp9_size(take):
        return take(16) + 1, take(16) + 1
    return None


def _goes_to_vp9_size(take: Callable[[int], int]) -> bool:
    """Read up to the size of a frame; return whether there is one."""
    marker, profile = take(2), take(1) | take(1) << 1
    if marker != 2 or (profile == 3 and take(1)) or take(1):
        return False
    is_inter, is_shown, resists = take(1), take(1), take(1)
    is_intra = bool(is_inter and not is_shown and take(1))
    if is_inter and not resists:
        take(2)
    if is_inter and not is_intra:
        take(8 + 3 * 4)
        return not any(take(1) for _ in range(3))
    if take(24) != _VP9_SYNC:
        return False
    if profile or not is_intra:
        _skip_colour(take, profile)
    if is_intra:
        take(8)
    return True


def _skip_colour(take: Callable[[int], int], profile: int) -> None:
    if profile >= 2:
        take(1)
    is_rgb = take(3) == 7
    if not is_rgb:
        take(1)
    if profile in (1, 3):
        take(1 if is_rgb else 3)
