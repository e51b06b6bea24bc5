"""Interlaced frames: detected by flags and by idet, frame by frame, and deinterlaced by bwdif."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import av
from av.container import InputContainer
from av.error import BlockingIOError as Again
from av.filter import Graph
from av.video.frame import VideoFrame

from runtime.media.demux import open_source, read_packets
from runtime.media.media_info import VideoStream

_SAMPLE_FRAMES: Final = 48
# A film begins with titles, a tape with bars, a broadcast with an advertisement, so other places are sampled too.
_PLACES: Final = (Fraction(1, 5), Fraction(2, 5), Fraction(3, 5), Fraction(4, 5))
_PLACE_FRAMES: Final = 20
_FLAG_FRAMES: Final = 4
_ENOUGH: Final = 6
_NEAR: Final = 2
"""Frames before and after one whose verdicts count for it too, since idet is not always sure of single frames."""
# Heights of interlaced television and discs; other sizes are checked only if flagged.
_LEAST_HEIGHT: Final = 64
_ALWAYS_FLAGGED: Final = ("hevc", "vp8", "vp9", "av1", "vvc")
# Codecs of broadcasts and discs, which flag each frame.
_CHANGING: Final = ("mpeg2video", "h264", "vc1")
_SINGLE: Final = "lavfi.idet.single.current_frame"
_TELEVISION_HEIGHTS: Final = (480, 486, 512, 576, 608, 1080, 1088)


@dataclass(frozen=True, slots=True)
class Interlacing:
    """What is known about a stream before it is read.

    interlaced: It holds interlaced frames; assumed if nothing can be detected.
    parity: Which field comes first.
    watched: Each frame is checked, and deinterlaced if it is interlaced.
    """

    interlaced: bool
    parity: Literal["auto", "tff", "bff"] = "auto"
    reason: str = "frames are progressive"
    watched: bool = False


def find_interlacing(path: Path, stream: VideoStream) -> Interlacing:
    """Detect interlacing by flags and, where those can be wrong or missing, by idet on frames from several places.

    A flag is unreliable for a stream that was recorded progressive but flagged interlaced, as many cameras do, and for
    one that is interlaced only in parts; FFmpeg's idet decides those frame by frame. It also decides for streams of
    television sizes in codecs without a flag.
    """
    suspect = stream.field_order not in ("progressive", "unknown")
    if stream.height < _LEAST_HEIGHT:
        return Interlacing(False)
    unflagged = _may_be_unflagged(stream)
    if not (suspect or unflagged or _is_flagged_later(path, stream)):
        return Interlacing(False)
    flagged, places = _look(path, stream)
    fields = sum(place["tff"] + place["bff"] for place in places)
    progressive = sum(place["progressive"] for place in places)
    tff = sum(place["tff"] for place in places)
    parity: Literal["tff", "bff"] = "tff" if 2 * tff >= fields else "bff"
    seen = f"idet found {fields} interlaced and {progressive} progressive frames"
    if flagged or suspect:
        if fields + progressive >= _ENOUGH and fields * 10 < fields + progressive:
            reason = f"frames are flagged interlaced, but {seen}; combed ones are deinterlaced"
            return Interlacing(False, reason=reason, watched=True)
        return Interlacing(True, reason=f"frames are flagged interlaced, {seen}", watched=True)
    if unflagged and any(_is_interlaced(place) for place in places):
        return Interlacing(True, parity, reason=f"no frame is flagged interlaced, but {seen}", watched=True)
    return Interlacing(False)


class Deinterlacer:
    """Deinterlaces each interlaced frame into one (bwdif, send_frame) and passes the others unchanged.

    As many frames come out as went in, with the same PTS. The decision for a frame depends only on it and a few
    neighbours, so that it is the same wherever reading began.
    """

    def __init__(self, frame: VideoFrame, time_base: Fraction, interlacing: Interlacing) -> None:
        options = f"mode=send_frame:parity={interlacing.parity}:deint=all"
        self._bwdif = _graph(frame, time_base, ("bwdif", options))
        self._idet = _graph(frame, time_base, ("idet", ""))
        self._default = interlacing.interlaced
        self._frames: deque[VideoFrame] = deque()
        self._whole: deque[VideoFrame] = deque()
        self._verdicts: deque[str] = deque()
        self._place = 0
        """Index of the verdict on the first of the frames."""

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Push a frame, or None at the end, and yield what is ready."""
        if frame is not None:
            self._frames.append(frame)
        self._bwdif.vpush(frame)
        self._idet.vpush(frame)
        self._whole.extend(_pull(self._bwdif))
        self._verdicts.extend(result.metadata[_SINGLE] for result in _pull(self._idet))
        while self._frames and self._whole and (frame is None or self._place + _NEAR < len(self._verdicts)):
            yield self._choose(self._frames.popleft(), self._whole.popleft())

    def _choose(self, frame: VideoFrame, whole: VideoFrame) -> VideoFrame:
        near = list(islice(self._verdicts, max(0, self._place - _NEAR), self._place + _NEAR + 1))
        own = self._verdicts[self._place] if self._place < len(self._verdicts) else ""
        if self._place == _NEAR:
            self._verdicts.popleft()
        else:
            self._place += 1
        if not _shows_fields(own, near, default=self._default):
            return frame
        whole.pts, whole.duration = frame.pts, frame.duration
        if frame.time_base is not None:
            whole.time_base = frame.time_base
        return whole


def _shows_fields(own: str, near: list[str], *, default: bool) -> bool:
    """Return whether a frame is interlaced, by idet's verdicts on it and on those near it."""
    fields, progressive = _fields(near), near.count("progressive")
    if not (fields or progressive):
        return default
    if own in ("tff", "bff"):
        # Telecined film has two such frames in a row; a single one is a mistake.
        return fields > 1 or progressive < _NEAR
    return fields > progressive


def _fields(verdicts: list[str]) -> int:
    return verdicts.count("tff") + verdicts.count("bff")


def _may_be_unflagged(stream: VideoStream) -> bool:
    return (
        stream.field_order == "unknown" and stream.codec not in _ALWAYS_FLAGGED and stream.height in _TELEVISION_HEIGHTS
    )


def _is_flagged_later(path: Path, stream: VideoStream) -> bool:
    """Return whether later frames of a stream that starts progressive are flagged interlaced, as in a broadcast."""
    may_change = stream.codec in _CHANGING and stream.height in _TELEVISION_HEIGHTS
    return may_change and _look(path, stream, with_idet=False)[0] > 0


def _is_interlaced(counts: dict[str, int]) -> bool:
    fields = counts["tff"] + counts["bff"]
    classified = fields + counts["progressive"]
    return classified >= _ENOUGH and fields * 10 > classified * 7


def _look(path: Path, stream: VideoStream, *, with_idet: bool = True) -> tuple[int, list[dict[str, int]]]:
    """Count flagged frames, and idet's verdicts in several places of a stream."""
    flagged, places = 0, []
    with open_source(path, only=(stream.index,)) as container:
        found, counts = _count(container, stream, _SAMPLE_FRAMES if with_idet else _PLACE_FRAMES, with_idet=with_idet)
        flagged += found
        places.append(counts)
        length = container.duration
        if length is None or (with_idet and sum(counts.values()) < _SAMPLE_FRAMES - 2):
            return flagged, places
        for share in _PLACES:
            with suppress(av.FFmpegError):
                container.seek(int((container.start_time or 0) + length * share))
            found, counts = _count(container, stream, _PLACE_FRAMES if with_idet else _FLAG_FRAMES, with_idet=with_idet)
            flagged += found
            places.append(counts)
    return flagged, places


def _count(container: InputContainer, stream: VideoStream, most: int, *, with_idet: bool) -> tuple[int, dict[str, int]]:
    """Count flagged frames and idet's verdicts over the next frames."""
    counts = {"tff": 0, "bff": 0, "progressive": 0, "undetermined": 0}
    flagged = seen = 0
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    for packet in read_packets(container, container.streams[stream.index]):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        for frame in frames:
            assert isinstance(frame, VideoFrame)
            flagged += frame.interlaced_frame
            seen += 1
            if not with_idet:
                continue
            if shape != (frame.width, frame.height, frame.format.name):
                shape = (frame.width, frame.height, frame.format.name)
                graph = _graph(frame, stream.time_base, ("idet", ""))
            assert graph is not None
            graph.vpush(frame)
            for result in _pull(graph):
                counts[result.metadata["lavfi.idet.multiple.current_frame"]] += 1
        if seen >= most:
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
