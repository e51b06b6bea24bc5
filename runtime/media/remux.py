"""Copies unprocessed streams of a source packet by packet, with the times of the result."""

import base64
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from heapq import merge
from math import floor
from typing import Final, cast

import av
from av.container import InputContainer
from av.stream import AttachmentStream, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from runtime.closing import Closing
from runtime.media.codecs import CodecName
from runtime.media.cuts import HIDING, FirstDts, ShownOrder, VideoCut, needs_order
from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.file_clock import declared_end_pts
from runtime.media.media_info import MediaInfo
from runtime.media.muxer import Muxer
from runtime.media.stream_mapping import COVERS, MATROSKA, OGG, StreamPlan, SubtitleTranscoder
from runtime.media.timeline import ContinuousPackets, can_seek, discard_others
from runtime.media.video_encoder import VideoEncoder, settings_for
from runtime.media.video_reader import VideoReader
from runtime.report import Action

_SEEK_EARLIER_US: Final = 2_000_000
_FRONT_COVER: Final = 3


class CopyTrack(Closing):
    """All copied streams of a source as one track: read in file order by one reader, times shifted to the result's."""

    def __init__(self, info: MediaInfo, muxer: Muxer, *, start: Fraction | None, end: Fraction | None) -> None:
        self.warnings: list[str] = []
        self._info, self._muxer = info, muxer
        self._span = start, end
        self._start = info.origin + (start or 0)
        self._trims = bool(start)
        self._end = None if end is None else info.origin + end
        # A stream with its own clock starts at another time than the file.
        self._own = {stream.index: stream.origin - info.origin for stream in info.videos}
        self._own |= {stream.index: stream.origin - info.origin for stream in info.audios}
        self._source: InputContainer | None = None
        self.counts: dict[int, int] = {}
        """Packets that were written, by index of the source's stream."""
        self._routes: dict[int, Callable[[AnyPacket], list[AnyPacket]]] = {}
        self._cuts: dict[int, VideoCut] = {}
        self._orders: dict[int, ShownOrder | FirstDts] = {}
        self._ends: dict[int, int | None] = {}
        self._encoded: list[tuple[VideoReader, VideoEncoder]] = []
        self._latest: dict[int, int] = {}
        self._repaired = 0

    def add(self, plan: StreamPlan) -> Stream | None:
        """Add one stream to the result; None if the container stores it without a stream of packets."""
        if self._source is None:
            self._source = open_source(self._info.path)
        source = self._source.streams[plan.index]
        if isinstance(source, AttachmentStream):
            name, kind = source.name or "attachment", source.mimetype or "application/octet-stream"
            self._muxer.container.add_attachment(name, kind, source.data)
            return None
        if plan.kind == "picture" and self._muxer.suffix in (*MATROSKA, *OGG):
            self._attach_cover(source, plan)
            return None
        if plan.action is Action.TRANSCODED and isinstance(source, SubtitleStream):
            assert plan.out_codec is not None
            transcoder = SubtitleTranscoder(self._muxer.container, source, plan.out_codec)
            self._routes[plan.index] = transcoder.transcode
            return transcoder.stream
        if plan.action is Action.TRANSCODED and plan.kind == "video":
            return self._encode_again(plan)
        stream = self._muxer.container.add_stream_from_template(source, opaque=True)
        if plan.kind == "video":
            # Without it, MP4 drops the Dolby Vision record.
            self._muxer.container.container_options["strict"] = "unofficial"
            begin = self._start if self._trims else None
            self._cuts[plan.index] = VideoCut(begin, self._end, hides=self._muxer.suffix in HIDING)
            assert isinstance(source, av.VideoStream)
            facts = next(video for video in self._info.videos if video.index == plan.index)
            self._ends[plan.index] = declared_end_pts(self._source, facts)
            if needs_order(self._source, source):
                self._orders[plan.index] = ShownOrder()
            else:
                self._orders[plan.index] = FirstDts()

        def copy(packet: AnyPacket) -> list[AnyPacket]:
            packet.stream = stream
            return [packet]

        self._routes[plan.index] = copy
        return stream

    def __iter__(self) -> Iterator[AnyPacket]:
        """Return the copied packets in file order, with re-encoded packets interleaved by time."""
        return merge(self._copy(), *(self._encode(*pair) for pair in self._encoded), key=_time)

    def _copy(self) -> Iterator[AnyPacket]:
        if self._source is None or not self._routes:
            return
        streams = [self._source.streams[index] for index in self._routes]
        discard_others(self._source, self._routes)
        is_intact = any(isinstance(order, ShownOrder) for order in self._orders.values())
        covers = any(stream.disposition & Disposition.attached_pic for stream in streams)
        if self._trims and not covers and not is_intact and can_seek(self._source, self._info.path, self._start):
            with suppress(av.FFmpegError):
                self._source.seek(max(0, int(self._start * 1_000_000) - _SEEK_EARLIER_US))
        packets = ContinuousPackets(self._source, *streams)
        for packet in packets:
            self._set_clock(packet)
            # An empty packet's own number is always 0.
            order = self._orders.get(packet.stream.index)
            for timed in order.push(packet) if order is not None else [packet] if packet.size else []:
                for wanted in self._choose(timed):
                    for result in self._routes[wanted.stream_index](self._moved(wanted)):
                        self.counts[wanted.stream_index] = self.counts.get(wanted.stream_index, 0) + 1
                        yield self._in_order(result)
        self.warnings += packets.describe(self._info.origin)
        if self._repaired:
            self.warnings.append(f"{self._repaired} copied packets had times out of order; repaired")

    def close(self) -> None:
        """Close the source."""
        if self._source is not None:
            self._source.close()

    def _encode_again(self, plan: StreamPlan) -> Stream:
        stream = next(video for video in self._info.videos if video.index == plan.index)
        start, end = self._span
        reader = VideoReader(self._info.path, stream, start=start, end=end)
        self._muxer.close_with(reader)
        codec = cast(CodecName, plan.out_codec)
        encoder = self._muxer.add_video(settings_for(reader, codec, width=reader.width, height=reader.height))
        self._encoded.append((reader, encoder))
        return encoder.stream

    def _encode(self, reader: VideoReader, encoder: VideoEncoder) -> Iterator[AnyPacket]:
        for frame in reader:
            yield from encoder.encode(frame)
        yield from encoder.flush()
        self.warnings += [*reader.warnings, *encoder.warnings]

    def _set_clock(self, packet: AnyPacket) -> None:
        """Shift a stream with its own clock to the file's clock."""
        shift = self._own.get(packet.stream_index)
        if shift:
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks

    def _choose(self, packet: AnyPacket) -> list[AnyPacket]:
        end = self._ends.get(packet.stream_index)
        if end is not None and packet.pts is not None and packet.pts < end < packet.pts + (packet.duration or 0):
            packet.duration = end - packet.pts
        cut = self._cuts.get(packet.stream_index)
        if cut is not None:
            return cut.push(packet)
        return [packet] if self._is_wanted(packet) else []

    def _is_wanted(self, packet: AnyPacket) -> bool:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or packet.stream.disposition & Disposition.attached_pic:
            return True
        begin = stamp * packet.time_base
        if self._end is not None and begin >= self._end:
            return False
        if not self._trims:
            return True
        return begin + (packet.duration or 0) * packet.time_base > self._start

    def _moved(self, packet: AnyPacket) -> AnyPacket:
        zero = floor(self._start / packet.time_base)
        if packet.stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0
            return packet
        if packet.pts is not None:
            packet.pts -= zero
        packet.dts = packet.pts if packet.dts is None else packet.dts - zero
        return packet

    def _in_order(self, packet: AnyPacket) -> AnyPacket:
        """Keep DTS strictly increasing, as every container requires."""
        index = packet.stream_index
        latest = self._latest.get(index)
        if packet.dts is None or (latest is not None and packet.dts <= latest):
            self._repaired += 1
            packet.dts = 0 if latest is None else latest + 1
            packet.pts = max(packet.dts, packet.pts if packet.pts is not None else packet.dts)
        self._latest[index] = packet.dts
        return packet

    def _attach_cover(self, source: Stream, plan: StreamPlan) -> None:
        kind = COVERS[plan.codec]
        name = source.metadata.get("filename", f"cover.{'jpg' if plan.codec == 'mjpeg' else plan.codec}")
        with open_source(self._info.path, only=(plan.index,)) as container:
            packet = next(read_packets(container, container.streams[plan.index]))
            if self._muxer.suffix in OGG:
                block = _cover_block(bytes(packet), kind, source.metadata.get("title", ""))
                self._muxer.container.metadata["METADATA_BLOCK_PICTURE"] = base64.b64encode(block).decode()
            else:
                self._muxer.container.add_attachment(name, source.metadata.get("mimetype", kind), bytes(packet))


def _cover_block(frame: bytes, kind: str, description: str) -> bytes:
    """Return an image as FLAC's METADATA_BLOCK_PICTURE, without its size and depth, which are optional."""
    texts = b"".join(struct.pack(">I", len(text)) + text for text in (kind.encode(), description.encode()))
    return struct.pack(">I", _FRONT_COVER) + texts + struct.pack(">5I", 0, 0, 0, 0, len(frame)) + frame


def _time(packet: AnyPacket) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base
