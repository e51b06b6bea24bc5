"""Decides, for every stream of a source, what becomes of it, and copies what is not processed."""

import io
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
from av.stream import Stream

from runtime.action import Action
from runtime.media.audio_choice import choose_audio, describe_change
from runtime.media.mux import FORMATS
from runtime.media.source import open_source, read_packets
from runtime.media.streams import AudioStream, MediaInfo, OtherStream, VideoStream
from runtime.media.subtitles import CONTAINER_SUBTITLES, TEXT_CODECS

MATROSKA: Final = (".mkv", ".mka")
COVERS: Final = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif"}
_PACKETS_TO_TRY: Final = 2


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What becomes of one stream; `out_codec` is None where nothing of it is written as a stream."""

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
) -> tuple[StreamPlan, ...]:
    """Decide what becomes of every stream of a source.

    Args:
        info: The source.
        suffix: The container of the result.
        video: The stream whose pictures are processed, if any.
        video_codec: What they are encoded as.
        processed_audio: Indexes of the tracks whose sound is processed; the others are copied where the container
            takes them, and encoded again where not.

    Raises:
        EncodeError: A track of sound fits the container in no codec.
    """
    plans: list[StreamPlan] = []
    with open_source(info.path) as container:
        for stream in info.streams:
            source = container.streams[stream.index]
            if isinstance(stream, AudioStream):
                plan = _plan_audio(info.path, source, stream, suffix, stream.index in processed_audio)
            elif isinstance(stream, OtherStream):
                plan = _plan_other(info, source, stream, suffix)
            elif video is not None and stream.index == video.index:
                plan = StreamPlan(stream.index, "video", stream.codec, Action.ENHANCED, video_codec)
            else:
                plan = _plan_video(info.path, source, stream, suffix)
            plans.append(plan)
    return tuple(plans)


def _plan_video(path: Path, source: Stream, stream: VideoStream, suffix: str) -> StreamPlan:
    kind = "picture" if stream.is_attached_picture else "video"
    plan = StreamPlan(stream.index, kind, stream.codec, Action.COPIED, stream.codec)
    if kind == "picture" and suffix in MATROSKA and stream.codec in COVERS:
        return plan
    return plan if _accepts(path, source, suffix) else _refused(plan, suffix)


def _plan_audio(path: Path, source: Stream, stream: AudioStream, suffix: str, processed: bool) -> StreamPlan:
    plan = StreamPlan(stream.index, "audio", stream.codec, Action.COPIED, stream.codec)
    if stream.codec == "unknown":
        return _refused(plan, suffix, "its codec is unknown")
    if not processed and _accepts(path, source, suffix):
        return plan
    settings = choose_audio(stream, suffix)
    codec, reason = settings.codec, describe_change(stream, settings)
    if processed:
        return StreamPlan(stream.index, "audio", stream.codec, Action.ENHANCED, codec, reason)
    reason = "; ".join(filter(None, (f"{suffix} does not take {stream.codec}", reason)))
    return StreamPlan(stream.index, "audio", stream.codec, Action.TRANSCODED, codec, reason)


def _plan_other(info: MediaInfo, source: Stream, stream: OtherStream, suffix: str) -> StreamPlan:
    plan = StreamPlan(stream.index, stream.kind, stream.codec, Action.COPIED, stream.codec)
    if stream.is_hidden:
        if info.chapters:
            return _rewritten(plan, "it names the chapters, which are written anew")
        return _refused(plan, suffix, "its packets are not for playing")
    if stream.kind == "data" and "timecode" in stream.tags and info.video is not None:
        return _rewritten(plan, f"the time code {stream.tags['timecode']} is written anew")
    if stream.kind == "attachment":
        return plan if suffix in MATROSKA else _refused(plan, suffix)
    if stream.kind == "subtitle" and stream.codec in TEXT_CODECS and suffix in CONTAINER_SUBTITLES:
        return _plan_text(info.path, source, plan, suffix)
    return plan if _accepts(info.path, source, suffix) else _refused(plan, suffix)


def _plan_text(path: Path, source: Stream, plan: StreamPlan, suffix: str) -> StreamPlan:
    wanted = CONTAINER_SUBTITLES[suffix]
    if plan.codec == wanted or (suffix in MATROSKA and _accepts(path, source, suffix)):
        return plan
    reason = f"{suffix} does not take {plan.codec}"
    return StreamPlan(plan.index, plan.kind, plan.codec, Action.TRANSCODED, wanted, reason)


def _refused(plan: StreamPlan, suffix: str, reason: str = "") -> StreamPlan:
    why = reason or f"{suffix} has no place for {plan.codec} {plan.kind}"
    return StreamPlan(plan.index, plan.kind, plan.codec, Action.NOT_CARRIED, None, why)


def _rewritten(plan: StreamPlan, reason: str) -> StreamPlan:
    return StreamPlan(plan.index, plan.kind, plan.codec, Action.TRANSCODED, None, reason)


def _accepts(path: Path, source: Stream, suffix: str) -> bool:
    """Try a stream in a container of its own, in memory: no table is as right as the muxer itself."""
    trial = av.open(io.BytesIO(), "w", format=FORMATS[suffix])
    try:
        stream = trial.add_stream_from_template(source, opaque=True)
        stream.disposition = source.disposition
        trial.start_encoding()
        with open_source(path, only=(source.index,)) as container:
            for count, packet in enumerate(read_packets(container, container.streams[source.index])):
                if not packet.size or count == _PACKETS_TO_TRY:
                    break
                packet.stream = stream
                trial.mux_one(packet)
        trial.close()
    except (av.FFmpegError, ValueError):
        with suppress(av.FFmpegError):
            trial.close()
        return False
    return True
