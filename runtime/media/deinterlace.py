"""Interlaced pictures: found by their flags and by looking, made whole by bwdif."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
from av.error import BlockingIOError as Again
from av.filter import Graph
from av.video.frame import VideoFrame

from runtime.media.source import open_source, read_packets
from runtime.media.streams import VideoStream

_SAMPLE_FRAMES: Final = 48
_ENOUGH: Final = 6
# Heights of interlaced television and discs; other sizes are looked at only where flags ask for it.
_LEAST_HEIGHT: Final = 64
_ALWAYS_FLAGGED: Final = ("hevc", "vp8", "vp9", "av1", "vvc")
_TELEVISION_HEIGHTS: Final = (480, 486, 512, 576, 608, 1080, 1088)


@dataclass(frozen=True, slots=True)
class Interlacing:
    """Whether a stream is interlaced, by which evidence, and which field comes first."""

    interlaced: bool
    parity: Literal["auto", "tff", "bff"] = "auto"
    reason: str = "pictures are progressive"


def find_interlacing(path: Path, stream: VideoStream) -> Interlacing:
    """Look at the flags of the first pictures and, where those can be wrong, at the pictures.

    A flag says nothing about the content of a stream that was recorded progressive and flagged interlaced, as many
    cameras do; FFmpeg's idet decides those, and streams of codecs that carry no flag at television sizes.
    """
    suspect = stream.field_order not in ("progressive", "unknown")
    if stream.height < _LEAST_HEIGHT or not (suspect or _may_be_unflagged(stream)):
        return Interlacing(False)
    flagged, counts = _count(path, stream)
    fields = counts["tff"] + counts["bff"]
    told = fields + counts["progressive"]
    parity: Literal["tff", "bff"] = "tff" if counts["tff"] >= counts["bff"] else "bff"
    seen = f"idet saw {fields} interlaced and {counts['progressive']} progressive pictures"
    if flagged:
        if told >= _ENOUGH and fields * 10 < told:
            return Interlacing(False, reason=f"pictures are flagged interlaced, but {seen}")
        return Interlacing(True, reason=f"{flagged} of the first pictures are flagged interlaced")
    if told >= _ENOUGH and fields * 10 > told * 7:
        return Interlacing(True, parity, reason=f"no picture is flagged interlaced, but {seen}")
    return Interlacing(False)


class Deinterlacer:
    """Makes each interlaced frame one whole frame (bwdif, send_frame): as many out as in, at the same PTS."""

    def __init__(self, frame: VideoFrame, time_base: Fraction, interlacing: Interlacing) -> None:
        options = f"mode=send_frame:parity={interlacing.parity}:deint=all"
        self._graph = _graph(frame, time_base, ("bwdif", options))
        self._times: deque[tuple[int | None, int, Fraction | None]] = deque()

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give in a frame, or None at the end, and take what is ready."""
        if frame is not None:
            self._times.append((frame.pts, frame.duration, frame.time_base))
        self._graph.vpush(frame)
        for result in _pull(self._graph):
            result.pts, result.duration, time_base = self._times.popleft()
            if time_base is not None:
                result.time_base = time_base
            yield result


def _may_be_unflagged(stream: VideoStream) -> bool:
    return (
        stream.field_order == "unknown" and stream.codec not in _ALWAYS_FLAGGED and stream.height in _TELEVISION_HEIGHTS
    )


def _count(path: Path, stream: VideoStream) -> tuple[int, dict[str, int]]:
    """Count flagged pictures and idet's verdicts over the first pictures of a stream."""
    counts = {"tff": 0, "bff": 0, "progressive": 0, "undetermined": 0}
    flagged = seen = 0
    graph: Graph | None = None
    with open_source(path, only=(stream.index,)) as container:
        source = container.streams[stream.index]
        for packet in read_packets(container, source):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                graph = graph or _graph(frame, stream.time_base, ("idet", ""))
                flagged += frame.interlaced_frame
                seen += 1
                graph.vpush(frame)
                for result in _pull(graph):
                    counts[result.metadata["lavfi.idet.multiple.current_frame"]] += 1
            if seen >= _SAMPLE_FRAMES:
                break
    return flagged, counts


def _graph(frame: VideoFrame, time_base: Fraction, stage: tuple[str, str]) -> Graph:
    graph = Graph()
    graph.threads = 1
    buffer = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    graph.link_nodes(buffer, graph.add(*stage), graph.add("buffersink")).configure()
    return graph


def _pull(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (Again, av.EOFError):
            return
