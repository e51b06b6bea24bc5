"""Maps the streams of a source to the result: enhanced, copied, transcoded or dropped."""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from runtime.media.audio_codecs import choose_audio, describe_change
from runtime.media.cuts import codec_for, find_copy_obstacle, has_frames
from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.media_info import AudioStream, MediaInfo, OtherStream, VideoStream
from runtime.media.muxer import FORMATS
from runtime.report import Action

TEXT_CODECS: Final = ("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text")
# The subtitle codecs of each container; others are converted to the first.
CONTAINER_SUBTITLES: Final = {
    ".mp4": "mov_text",
    ".m4v": "mov_text",
    ".mov": "mov_text",
    ".mkv": "subrip",
    ".webm": "webvtt",
}


class SubtitleTranscoder:
    """Transcodes the packets of one subtitle stream."""

    def __init__(self, container: OutputContainer, source: SubtitleStream, codec: str) -> None:
        """Add the stream to a container; its header carries the styles of the source."""
        decoder = source.codec_context
        decoder.open(strict=False)
        stream = container.add_stream(codec)
        assert isinstance(stream, SubtitleStream)
        self._decoder, self._encoder = decoder, stream.codec_context
        self._encoder.subtitle_header = decoder.subtitle_header
        self._encoder.time_base = stream.time_base = source.time_base or Fraction(1, 1000)
        self._encoder.open()
        self.stream = stream

    def transcode(self, packet: AnyPacket) -> list[AnyPacket]:
        """Return the packet in the new codec; empty if it had no text."""
        subtitles = self._decoder.decode2(packet)
        if subtitles is None or not len(subtitles):
            return []
        result = self._encoder.encode_subtitle(subtitles)
        result.pts, result.dts, result.duration = packet.pts, packet.pts, packet.duration
        result.time_base, result.stream = packet.time_base, self.stream
        return [result]


MATROSKA: Final = (".mkv", ".mka")
COVERS: Final = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif"}
# Ogg stores a cover as a tag, in the form of FLAC's PICTURE block.
OGG: Final = (".ogg", ".opus")
_OGG_COVERS: Final = ("mjpeg", "png")
# Audio containers accept a cover only with audio; the encoder for the audio of a trial.
_AUDIO_FOR_COVER: Final = {".mp3": "libmp3lame", ".flac": "flac", ".m4a": "aac"}
_PACKETS_TO_TRY: Final = 2
# Packets are searched this far; a sparser stream is tried by its parameters alone.
_BYTES_TO_READ: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """The mapping of one stream; `out_codec` is None if it is not written as a stream."""

    index: int
    kind: str
    codec: str
    action: Action
    out_codec: str | None = None
    reason: str = ""


def plan_streams(
    info: MediaInfo,
    suffix: str,
    *,
    video: VideoStream | None,
    video_codec: str | None,
    processed_audio: Collection[int],
    left_out: Mapping[int, str] | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> tuple[StreamPlan, ...]:
    """Decide the mapping of every stream of a source.

    Args:
        info: The source.
        suffix: The container of the result.
        video: The stream whose frames are processed, if any.
        video_codec: What they are encoded as.
        processed_audio: Indexes of the tracks whose audio is processed; the others are copied if the container supports
        them, else re-encoded.
        left_out: Why an audio track is dropped, by its index.
        start: Seconds at which the result begins.
        end: Seconds at which it ends.

    Raises:
        EncodeError: An audio track fits the container in no codec.
    """
    plans: list[StreamPlan] = []
    with open_source(info.path) as container:
        trial = _Trial(container, suffix, unread=() if video is None else (video.index,))
        for stream in info.streams:
            source = container.streams[stream.index]
            if left_out is not None and stream.index in left_out:
                reason = left_out[stream.index]
                plan = StreamPlan(stream.index, "audio", stream.codec, Action.NOT_CARRIED, None, reason)
            elif isinstance(stream, AudioStream):
                plan = _plan_audio(trial, source, stream, suffix, stream.index in processed_audio)
            elif isinstance(stream, OtherStream):
                plan = _plan_other(trial, info, source, stream, suffix)
            elif video is not None and stream.index == video.index:
                plan = StreamPlan(stream.index, "video", stream.codec, Action.ENHANCED, video_codec)
            else:
                plan = _plan_video(trial, source, stream, suffix, has_cover=any(p.kind == "picture" for p in plans))
                plan = _plan_copy(plan, info, stream, suffix, (start, end)) if plan.kind == "video" else plan
            plans.append(plan)
    return tuple(plans)


def _plan_video(trial: "_Trial", source: Stream, stream: VideoStream, suffix: str, *, has_cover: bool) -> StreamPlan:
    kind = "picture" if stream.is_attached_picture else "video"
    plan = StreamPlan(stream.index, kind, stream.codec, Action.COPIED, stream.codec)
    if kind == "picture" and suffix in MATROSKA and stream.codec in COVERS:
        return plan
    if kind == "picture" and suffix in OGG and stream.codec in _OGG_COVERS:
        return _refused(plan, suffix, f"{suffix} can hold only one cover") if has_cover else plan
    return plan if trial.accepts(source) else _refused(plan, suffix)


def _plan_copy(
    plan: StreamPlan, info: MediaInfo, stream: VideoStream, suffix: str, span: tuple[Fraction | None, Fraction | None]
) -> StreamPlan:
    """Re-encode frames that cannot be copied with correct timing; containers accept no track without packets."""
    if plan.action is not Action.COPIED:
        return plan
    if not has_frames(info.path, stream, *span):
        return _refused(plan, suffix, "no frame of it starts in the selected part")
    obstacle = find_copy_obstacle(info.path, stream, suffix, span[0])
    codec = codec_for(stream, suffix)
    if not obstacle or codec is None or stream.has_alpha or stream.codec == "unknown":
        return plan
    return StreamPlan(stream.index, "video", stream.codec, Action.TRANSCODED, codec, obstacle)


def _plan_audio(trial: "_Trial", source: Stream, stream: AudioStream, suffix: str, processed: bool) -> StreamPlan:
    plan = StreamPlan(stream.index, "audio", stream.codec, Action.COPIED, stream.codec)
    if stream.codec == "unknown":
        return _refused(plan, suffix, "its codec is unknown")
    if not processed and trial.accepts(source):
        return plan
    if not (stream.sample_rate and stream.channels):
        return _refused(plan, suffix, "nothing in it can be decoded")
    settings = choose_audio(stream, suffix)
    codec, reason = settings.codec, describe_change(stream, settings)
    if processed:
        return StreamPlan(stream.index, "audio", stream.codec, Action.ENHANCED, codec, reason)
    reason = "; ".join(filter(None, (f"{suffix} does not support {stream.codec}", reason)))
    return StreamPlan(stream.index, "audio", stream.codec, Action.TRANSCODED, codec, reason)


def _plan_other(trial: "_Trial", info: MediaInfo, source: Stream, stream: OtherStream, suffix: str) -> StreamPlan:
    plan = StreamPlan(stream.index, stream.kind, stream.codec, Action.COPIED, stream.codec)
    if stream.is_hidden:
        if info.chapters:
            return _rewritten(plan, "it holds the chapter titles, which are rewritten as chapters")
        return _refused(plan, suffix, "it is not meant for playback")
    if stream.kind == "data" and "timecode" in stream.tags and info.video is not None:
        return _rewritten(plan, f"the time code {stream.tags['timecode']} is rewritten")
    if stream.kind == "attachment":
        return plan if suffix in MATROSKA else _refused(plan, suffix)
    if stream.kind == "subtitle" and stream.codec in TEXT_CODECS and suffix in CONTAINER_SUBTITLES:
        return _plan_text(trial, source, plan, suffix)
    unknown = f"this {stream.kind} cannot be copied" if stream.codec == "unknown" else ""
    return plan if not unknown and trial.accepts(source) else _refused(plan, suffix, unknown)


def _plan_text(trial: "_Trial", source: Stream, plan: StreamPlan, suffix: str) -> StreamPlan:
    wanted = CONTAINER_SUBTITLES[suffix]
    if plan.codec == wanted or (suffix in MATROSKA and trial.accepts(source)):
        return plan
    reason = f"{suffix} does not support {plan.codec}"
    return StreamPlan(plan.index, plan.kind, plan.codec, Action.TRANSCODED, wanted, reason)


def _refused(plan: StreamPlan, suffix: str, reason: str = "") -> StreamPlan:
    why = reason or f"{suffix} cannot hold {plan.codec} {plan.kind}"
    return StreamPlan(plan.index, plan.kind, plan.codec, Action.NOT_CARRIED, None, why)


def _rewritten(plan: StreamPlan, reason: str) -> StreamPlan:
    return StreamPlan(plan.index, plan.kind, plan.codec, Action.TRANSCODED, None, reason)


class _Trial:
    """Tries streams of a source in the container of the result, in memory: no table is as reliable as the muxer.

    The written file is read back, since some muxers accept streams that no reader finds again. The source's packets are
    read once for all of its streams.
    """

    def __init__(self, container: InputContainer, suffix: str, *, unread: Collection[int]) -> None:
        self._container, self._suffix = container, suffix
        self._unread = unread
        self._packets: dict[int, list[AnyPacket]] | None = None

    def accepts(self, source: Stream) -> bool:
        """Return whether the container of the result can hold a stream unchanged."""
        if self._packets is None:
            self._packets = self._read()
        packets = self._packets.get(source.index, [])
        memory = io.BytesIO()
        try:
            is_cover = bool(source.disposition & Disposition.attached_pic)
            trial = av.open(memory, "w", format=FORMATS[self._suffix])
            try:
                stream = trial.add_stream_from_template(source, opaque=True)
                stream.disposition = source.disposition
                audio = _AUDIO_FOR_COVER.get(self._suffix) if is_cover else None
                encoder = None if audio is None else trial.add_stream(audio, rate=48_000)
                trial.start_encoding()
                sent = [bytes(packet) for packet in packets]
                for packet in packets:
                    packet.stream = stream
                    if is_cover:
                        packet.pts = packet.dts = 0
                    trial.mux_one(packet)
                if isinstance(encoder, av.AudioStream):
                    _encode_silence(trial, encoder)
            finally:
                trial.close()
        except (av.FFmpegError, ValueError):
            return False
        return _reads_back(memory, source, sent)

    def _read(self) -> dict[int, list[AnyPacket]]:
        """Read the first packets of every stream, if they are near the beginning."""
        found: dict[int, list[AnyPacket]] = {}
        streams = []
        for stream in self._container.streams:
            if stream.index in self._unread:
                stream.discard = Discard.all
            elif stream.type != "attachment":
                streams.append(stream)
                found[stream.index] = []
        budget = _BYTES_TO_READ
        for packet in read_packets(self._container, *streams) if streams else ():
            if not packet.size:  # the end of a stream, sent for unread streams too
                continue
            held = found[packet.stream_index]
            if len(held) < _PACKETS_TO_TRY:
                held.append(packet)
            budget -= packet.size
            if budget < 0 or all(len(packets) == _PACKETS_TO_TRY for packets in found.values()):
                break
        return found


def _encode_silence(container: OutputContainer, encoder: av.AudioStream) -> None:
    frame = av.AudioFrame(encoder.format.name, encoder.layout.name, encoder.codec_context.frame_size or 1024)
    frame.sample_rate, frame.pts = encoder.sample_rate, 0
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    for packet in (*encoder.encode(frame), *encoder.encode(None)):
        container.mux_one(packet)


def _reads_back(memory: io.BytesIO, source: Stream, sent: list[bytes]) -> bool:
    """Return whether a written stream is found again, by its kind, codec and packets."""
    memory.seek(0)
    try:
        with av.open(memory, "r", metadata_errors="replace") as container:
            found = next((stream for stream in container.streams if stream.type == source.type), None)
            if found is None or _codec_of(found) != _codec_of(source):
                return False
            packets = [bytes(packet) for packet in container.demux(found) if packet.size]
    except (av.FFmpegError, ValueError):
        return False
    if source.type == "data":
        return packets == sent
    return bool(packets) or not sent


def _codec_of(stream: Stream) -> str | None:
    context = stream.codec_context
    if context is None:
        return getattr(stream, "name", None)
    return av.Codec(context.name, "r").canonical_name
