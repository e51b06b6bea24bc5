"""Builds the tracks of a result from the plan of its streams: encoders to feed, copies to merge, tags and chapters."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any, Final

from av.stream import Disposition, Stream
from av.video.stream import VideoStream as VideoTrack

from runtime.media.audio_codecs import choose_audio
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.file_clock import describe_own_clocks
from runtime.media.media_info import AnyStream, AudioStream, MediaInfo, VideoStream
from runtime.media.muxer import MP4_FAMILY, Muxer
from runtime.media.remux import CopyTrack
from runtime.media.stream_mapping import StreamPlan
from runtime.media.timecode import result_time_code, time_code_rate
from runtime.media.video_encoder import EncodeSettings, VideoEncoder
from runtime.media.wave_chunks import cut_chunks
from runtime.report import Action

# Tags about the source's encoding, which do not apply to the result.
_STALE_TAGS: Final = ("bps", "duration", "number_of_", "_statistics", "rotate", "alpha_mode")

_OF_A_STREAM: Final = ("language", "encoder")
# QuickTime numbers languages, and FFmpeg maps only these codes; others would be lost.
_QUICKTIME_LANGUAGES: Final = {
    "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "swe": "sve", "sqi": "alb", "hye": "arm",
    "kat": "geo", "bod": "tib", "mya": "bur", "msa": "may", "cym": "wel", "eus": "baq", "fre": "fra", "rum": "ron",
    "cze": "ces", "slo": "slk", "mkd": "mac",
}  # fmt: skip
_ID3_CONTAINERS: Final = ("mp3", "aac")


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a result: encoders to feed, by index of the source's stream, and the copies to merge.

    `indexes` gives the result's stream for each stream of the source that has one.
    """

    video: VideoEncoder | None
    audios: dict[int, AudioEncoder]
    copies: CopyTrack
    indexes: dict[int, int]


def add_tracks(
    muxer: Muxer,
    info: MediaInfo,
    plans: tuple[StreamPlan, ...],
    *,
    video: EncodeSettings | None,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Tracks:
    """Add every planned stream to a result in the source's order, with its tags, and the chapters and tags of the file.

    Raises:
        EncodeError: An encoder or the container refuses a stream.
    """
    copies = CopyTrack(info, muxer, start=start, end=end)
    muxer.close_with(copies)
    encoder: VideoEncoder | None = None
    audios: dict[int, AudioEncoder] = {}
    indexes: dict[int, int] = {}
    streams = {stream.index: stream for stream in info.streams}
    muxer.warnings += describe_own_clocks(info)
    time_code = result_time_code(info, start)
    code_rate = None if time_code is None else time_code_rate(time_code, info)
    if code_rate is None and muxer.suffix in MP4_FAMILY:
        time_code = None  # which the muxer refuses at the end, or counts at another rate
    for plan in plans:
        stream = streams[plan.index]
        added: Stream | None = None
        if plan.out_codec is None:
            continue
        if plan.kind == "video" and plan.action is Action.ENHANCED:
            assert video is not None
            encoder = muxer.add_video(video)
            added = encoder.stream
        elif isinstance(stream, AudioStream) and plan.action is not Action.COPIED:
            audios[plan.index] = muxer.add_audio(choose_audio(stream, muxer.suffix))
            added = audios[plan.index].stream
        else:
            added = copies.add(plan)
        if added is not None:
            indexes[plan.index] = added.index
            _describe(added, stream, time_code if stream == info.video else None, plan.action)
            if stream == info.video and code_rate is not None and plan.action is Action.COPIED:
                assert isinstance(added, VideoTrack)
                added.codec_context.framerate = code_rate
            if muxer.suffix in MP4_FAMILY and "title" in added.metadata:
                # The handler's name is the only name of a track that FFmpeg writes into an MP4.
                added.metadata["handler_name"] = added.metadata["title"]
            if muxer.suffix == ".mov" and "language" in added.metadata:
                language = added.metadata["language"]
                added.metadata["language"] = _QUICKTIME_LANGUAGES.get(language, language)
            if isinstance(stream, VideoStream) and not stream.is_attached_picture:
                vision = stream.dolby_vision if plan.action is Action.COPIED else None
                muxer.set_shape(added, replace(stream.shape, dolby_vision=vision))
    muxer.set_tags(file_tags(info, start), has_cover=any(video.is_attached_picture for video in info.videos))
    muxer.set_chapters(_chapters(info, start, end))
    if info.wave_chunks and info.audios:
        rate = info.audios[0].sample_rate
        first, last = round((start or 0) * rate), None if end is None else round(end * rate)
        muxer.set_wave_chunks(cut_chunks(info.wave_chunks, first, last))
    return Tracks(encoder, audios, copies, indexes)


def _describe(added: Stream, stream: AnyStream, time_code: str | None, action: Action) -> None:
    tags = {
        key: text
        for key, text in stream.tags.items()
        if not key.lower().startswith(_STALE_TAGS)
        and key.lower() != "timecode"
        and not (action is not Action.COPIED and isinstance(stream, VideoStream) and key.lower() == "encoder")
    }
    if time_code is not None:
        tags["timecode"] = time_code
    added.metadata.update(tags)
    added.disposition = Disposition(stream.disposition)


def is_same_language(one: str, other: str) -> bool:
    """Return whether two codes of different standards mean the same language."""
    return _QUICKTIME_LANGUAGES.get(one, one) == _QUICKTIME_LANGUAGES.get(other, other)


def file_tags(info: MediaInfo, start: Fraction | None) -> dict[str, str]:
    """Return the tags of the file, which Ogg stores with its first stream.

    A Broadcast Wave's time reference counts samples, and moves with the start.
    """
    # The time code is that of the video stream, if there is one.
    tags = {key: text for key, text in info.tags.items() if info.video is None or key.lower() != "timecode"}
    if info.container == "ogg" and not tags and info.streams:
        tags = {key: text for key, text in info.streams[0].tags.items() if key.lower() not in _OF_A_STREAM}
    reference = tags.get("time_reference", "")
    if start and info.audios and reference.isdecimal():
        tags["time_reference"] = str(int(reference) + round(start * info.audios[0].sample_rate))
    return tags


def _chapters(info: MediaInfo, start: Fraction | None, end: Fraction | None) -> list[Any]:
    chapters: list[Any] = []
    # ID3 counts from the first audible sample, not on the clock of the stream.
    origin = Fraction(0) if info.container in _ID3_CONTAINERS else info.origin
    for number, chapter in enumerate(info.chapters):
        zero = floor((origin + (start or 0)) / chapter.time_base)
        first, last = chapter.start - zero, chapter.end - zero
        if end is not None:
            last = min(last, floor((end - (start or 0)) / chapter.time_base))
        if last > max(first, 0):
            chapters.append(
                {
                    "id": number,
                    "start": max(first, 0),
                    "end": last,
                    "time_base": chapter.time_base,
                    "metadata": dict(chapter.tags),
                }
            )
    return chapters
