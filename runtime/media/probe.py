"""Probes a media file, decoding no more than the first frame of each stream."""

import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from math import atan2, degrees, floor
from pathlib import Path
from typing import Any, Final

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame

from runtime.errors import UnsupportedMediaError
from runtime.media.colour import Colour, read_colour, read_hdr, read_side_data
from runtime.media.demux import find_webp_size, open_source, read_packets
from runtime.media.file_clock import find_duration, find_origins
from runtime.media.matroska_header import read_matroska_tracks
from runtime.media.media_info import (
    AnyStream,
    AudioStream,
    Chapter,
    FieldOrder,
    MediaInfo,
    OtherStream,
    VideoStream,
    usual_layout,
)
from runtime.media.mp4_header import read_mp4_tracks
from runtime.media.pixel_formats import bits_of, chroma_of, fitting_crop, has_alpha
from runtime.media.side_data import has_time_code, read_spherical, read_stereo
from runtime.media.wave_chunks import read_wave_chunks

__all__ = ["AnyStream", "AudioStream", "Chapter", "MediaInfo", "OtherStream", "VideoStream", "probe"]

_FIELD_ORDERS: Final[dict[int, FieldOrder]] = {
    1: "progressive", 2: "top", 3: "bottom", 4: "top", 5: "bottom",
}  # fmt: skip
_HIGHEST_USUAL_RATE: Final = 120
_FAR_FROM_GUESSED: Final = 4
# Video without a container: the rate is in its headers, and packets have no times.
_RAW: Final = ("h264", "hevc", "mpegvideo", "m4v", "vc1")
# FFmpeg's own order of channels.
_CHANNELS: Final = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
    "DL", "DR", "WL", "WR", "SDL", "SDR", "LFE2", "TSL", "TSR", "BFC", "BFL", "BFR",
)  # fmt: skip
_PLACES_TO_LOOK: Final = 8
_BYTES_TO_LOOK: Final = 16 << 20
_RATES: Final = (1000, 768_000)
_MOST_CHANNELS: Final = 64
_PACKETS_FOR_FIRST_FRAME: Final = 100
_MOST_PACKETS: Final = 1000


def probe(path: Path) -> MediaInfo:
    """Probe a media file.

    Raises:
        DecodeError: The file is missing, empty, unreadable, or broken.
        UnsupportedMediaError: The file is a still image, names other files, holds neither video nor audio, or holds
            audio of an implausible rate or number of channels.
    """
    orders: dict[int, tuple[str, ...]] = {}
    webp_size = find_webp_size(path)
    with open_source(path, orders=orders) as container:
        origin, origins = find_origins(container)
        videos = [
            _video(stream, origins.get(stream.index, origin), container.format.name)
            for stream in container.streams.video
        ]
        audios = [_audio(stream, origins.get(stream.index, origin)) for stream in container.streams.audio]
        audios = [_with_order(audio, orders.get(audio.index, ())) for audio in audios]
        known = {video.index for video in videos} | {audio.index for audio in audios}
        facts = _header_facts(path, container)
        info = MediaInfo(
            path=path,
            container="webp" if webp_size is not None else container.format.name,
            duration=find_duration(container, path, origin),
            size_bytes=container.size if webp_size is None else webp_size,
            videos=tuple(replace(video, **facts.get(video.index, {})) for video in videos),
            audios=_with_first_audio(path, audios),
            others=tuple(_other(s) for s in container.streams if s.index not in known),
            chapters=tuple(_chapters(container)),
            tags=dict(container.metadata) if webp_size is None else {},
            origin=origin,
            wave_chunks=read_wave_chunks(path) if container.format.name == "wav" else (),
        )
        # Last, since packets of a transport stream may add streams and tags that its beginning does not declare.
        info = replace(info, videos=_with_first_frames(container, info.videos))
    _refuse_strange_audio(info)
    if not info.videos and not info.audios:
        raise UnsupportedMediaError(f"{path} has neither video nor audio, expected at least one of them")
    return info


def _header_facts(path: Path, container: InputContainer) -> dict[int, dict[str, Any]]:
    """Read the header properties that FFmpeg does not expose, as fields of `VideoStream` by index."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    names = container.format.name.split(",")
    if "mov" in names:
        tracks = read_mp4_tracks(path)
        found = {stream.index: tracks[stream.id] for stream in moving if stream.id in tracks}
        return {index: {name: getattr(track, name) for name in track.__slots__} for index, track in found.items()}
    if "matroska" in names:
        pairs = read_matroska_tracks(path)
        if len(pairs) == len(moving):
            return {
                stream.index: {"crop": crop, "dolby_vision": dolby_vision}
                for stream, (crop, dolby_vision) in zip(moving, pairs, strict=True)
            }
    return {}


def _video(stream: av.VideoStream, origin: Fraction, container: str) -> VideoStream:
    context = stream.codec_context
    name = "none" if context is None or context.format is None else context.format.name
    codes = (2, 0, 2, 2)
    if context is not None:
        codes = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
    width, height = (0, 0) if context is None else (context.width, context.height)
    rate = _rate(stream, container)
    return VideoStream(
        index=stream.index,
        codec="unknown" if context is None else _codec_name(context.name),
        width=width,
        height=height,
        pixel_format=name,
        bit_depth=8 if name == "none" else bits_of(name),
        chroma="420" if name == "none" else chroma_of(name),
        has_alpha=name != "none" and (has_alpha(name) or _tells_alpha(stream)),
        time_base=stream.time_base or Fraction(1, 1000),
        average_rate=rate or None,
        nominal_rate=(None if context is None else stream.guessed_rate) or rate or None,
        frames=stream.frames or None,
        duration_pts=stream.duration,
        start_pts=stream.start_time,
        sample_aspect=(stream.sample_aspect_ratio if context is not None else None) or Fraction(1),
        rotation=0,
        display_matrix=None,
        colour=read_colour(codes, pixel_format=name, width=width, height=height),
        hdr=None,
        field_order="unknown" if context is None else _FIELD_ORDERS.get(context.field_order, "unknown"),
        is_attached_picture=bool(stream.disposition & Disposition.attached_pic),
        disposition=int(stream.disposition),
        tags=dict(stream.metadata),
        origin=origin,
    )


def _rate(stream: av.VideoStream, container: str) -> Fraction | None:
    """Return the mean frame rate, or FFmpeg's guess where the mean is unknown or far too high.

    FFmpeg 8.1 reports the tick rate as the mean of raw DV, and always 25 for streams without a container.
    """
    mean = stream.average_rate
    guessed = None if stream.codec_context is None else stream.guessed_rate
    is_far = mean and guessed and mean > _HIGHEST_USUAL_RATE and mean > _FAR_FROM_GUESSED * guessed
    if is_far or (guessed and container in _RAW):
        return guessed
    return mean or guessed


def _tells_alpha(stream: Stream) -> bool:
    """Return whether a tag announces the alpha plane that FFmpeg's own VP9 decoder ignores."""
    return any(key.lower() == "alpha_mode" and text == "1" for key, text in stream.metadata.items())


def _with_first_frames(container: InputContainer, videos: tuple[VideoStream, ...]) -> tuple[VideoStream, ...]:
    """Add the properties that only a decoded frame has, reading the file once for all streams."""
    wanted = {video.index for video in videos if video.codec != "unknown" and not video.is_attached_picture}
    found: dict[int, VideoStream] = {}
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = Discard.all
    streams = [stream for stream in container.streams.video if stream.index in wanted]
    frames = _first_frames(container, streams)
    for video in videos:
        frame = frames.get(video.index)
        if frame is not None:
            order = next(stream for stream in streams if stream.index == video.index).codec_context.field_order
            found[video.index] = _with_frame(video, frame, field_order=order)
    return tuple(found.get(video.index, video) for video in videos)


def _first_frames(container: InputContainer, streams: list[av.VideoStream]) -> dict[int, VideoFrame]:
    """Decode the first frame of each stream; streams without a frame in their first packets are skipped."""
    found: dict[int, VideoFrame] = {}
    counts = {stream.index: 0 for stream in streams}
    if not streams:
        return found
    for stream in streams:
        stream.thread_count = 1
    for packet in read_packets(container, *streams):
        index = packet.stream_index if packet.size else packet.stream.index
        if index in found or counts[index] > _PACKETS_FOR_FIRST_FRAME:
            continue
        counts[index] += 1
        frames: list[VideoFrame] = []
        with suppress(av.FFmpegError):
            frames = [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
        if frames:
            found[index] = frames[0]
        waiting = [count for one, count in counts.items() if one not in found]
        if all(count > _PACKETS_FOR_FIRST_FRAME for count in waiting) or sum(counts.values()) > _MOST_PACKETS:
            break
    return found


def _with_frame(video: VideoStream, frame: VideoFrame, *, field_order: int) -> VideoStream:
    """Add the properties of a stream's first frame: its true format, rotation and HDR metadata."""
    name = frame.format.name
    matrix = _display_matrix(frame)
    crop = fitting_crop(video.crop, frame.width, frame.height)
    return replace(
        video,
        crop=crop,
        width=frame.width - (crop.left + crop.right if crop is not None else 0),
        height=frame.height - (crop.top + crop.bottom if crop is not None else 0),
        header_time_code=has_time_code(frame),
        stereo=read_stereo(frame) or video.stereo,
        spherical=read_spherical(frame) or video.spherical,
        pixel_format=name,
        bit_depth=bits_of(name),
        chroma=chroma_of(name),
        has_alpha=video.has_alpha or has_alpha(name),
        display_matrix=matrix,
        rotation=0 if matrix is None else _rotation(matrix),
        colour=_frame_colour(frame),
        hdr=read_hdr(frame),
        field_order=_FIELD_ORDERS.get(field_order, "unknown"),
    )


def _frame_colour(frame: VideoFrame) -> Colour:
    codes = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
    return read_colour(codes, pixel_format=frame.format.name, width=frame.width, height=frame.height)


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    data = read_side_data(frame).get(Type.DISPLAYMATRIX)
    return None if data is None else struct.unpack_from("<9i", data)


def _rotation(matrix: tuple[int, ...]) -> int:
    """Return counter-clockwise degrees, as FFmpeg's av_display_rotation_get."""
    return round(-degrees(atan2(matrix[1], matrix[0])))


def _audio(stream: av.AudioStream, origin: Fraction) -> AudioStream:
    context = stream.codec_context
    known = context is not None
    return AudioStream(
        index=stream.index,
        codec=_codec_name(context.name) if known else "unknown",
        sample_rate=context.sample_rate if known else 0,
        channels=context.channels if known else 0,
        layout=usual_layout(context.layout.name, context.channels) if known else "unknown",
        sample_format=context.format.name if known and context.format else "none",
        time_base=stream.time_base or Fraction(1, 1000),
        start_pts=stream.start_time,
        duration_pts=stream.duration,
        bit_rate=(context.bit_rate if known else None) or None,
        disposition=int(stream.disposition),
        tags=dict(stream.metadata),
        origin=origin,
    )


def _with_order(audio: AudioStream, names: tuple[str, ...]) -> AudioStream:
    """Return the layout of channels in a custom order, and the positions of its channels."""
    usual = sorted(names, key=lambda name: _CHANNELS.index(name) if name in _CHANNELS else len(_CHANNELS))
    try:
        layout = av.AudioLayout("+".join(usual)).name
    except ValueError:
        return audio
    if not names or "channels (" in layout:
        return audio
    return replace(audio, layout=layout, order=tuple(names.index(name) for name in usual))


def _with_first_audio(path: Path, audios: list[AudioStream]) -> tuple[AudioStream, ...]:
    """Search further for tracks whose rate or layout the beginning does not declare, as in broadcasts.

    Several places are searched, since a track may start late and the file may be long.
    """
    silent = {a.index for a in audios if a.codec != "unknown" and not (a.sample_rate and a.channels)}
    found: dict[int, AudioFrame] = {}
    if silent:
        with open_source(path) as container:
            for place in range(_PLACES_TO_LOOK):
                if silent <= found.keys() or (place and not _go_to(container, Fraction(place, _PLACES_TO_LOOK))):
                    break
                found |= _first_audio_frames(container, silent - found.keys())
    return tuple(_with_audio(audio, found[audio.index]) if audio.index in found else audio for audio in audios)


def _go_to(container: InputContainer, share: Fraction) -> bool:
    """Seek to a part of a file; return False if that is not possible."""
    if not container.duration:
        return False
    try:
        container.seek((container.start_time or 0) + floor(container.duration * share))
    except av.FFmpegError:
        return False
    return True


def _first_audio_frames(container: InputContainer, indexes: Collection[int]) -> dict[int, AudioFrame]:
    """Decode the first frame of some tracks in the next part of a file."""
    found: dict[int, AudioFrame] = {}
    budget = _BYTES_TO_LOOK
    # All streams are read, so that a track without packets does not cause the whole file to be read.
    for packet in read_packets(container, *container.streams):
        budget -= packet.size
        if packet.stream_index in indexes and packet.stream_index not in found:
            with suppress(av.FFmpegError, ValueError):
                for frame in packet.decode():
                    assert isinstance(frame, AudioFrame)
                    found.setdefault(packet.stream_index, frame)
        if budget < 0 or set(indexes) <= found.keys():
            break
    return found


def _with_audio(audio: AudioStream, frame: AudioFrame) -> AudioStream:
    """Add the properties that only decoded audio has."""
    channels = frame.layout.nb_channels
    return replace(
        audio,
        sample_rate=frame.sample_rate,
        channels=channels,
        layout=usual_layout(frame.layout.name, channels),
        sample_format=frame.format.name,
    )


def _refuse_strange_audio(info: MediaInfo) -> None:
    for audio in info.audios:
        if audio.codec == "unknown" or not (audio.sample_rate and audio.channels):
            continue
        if not (_RATES[0] <= audio.sample_rate <= _RATES[1] and audio.channels <= _MOST_CHANNELS):
            raise UnsupportedMediaError(
                f"{info.path} has audio of {audio.sample_rate} Hz and {audio.channels} channels in stream "
                f"{audio.index}, expected {_RATES[0]} to {_RATES[1]} Hz and at most {_MOST_CHANNELS} channels"
            )


def _other(stream: Stream) -> OtherStream:
    context = stream.codec_context
    name = _codec_name(context.name) if context is not None else getattr(stream, "name", None)
    return OtherStream(
        index=stream.index,
        kind=stream.type,
        codec=name or "unknown",
        time_base=stream.time_base or Fraction(1, 1000),
        is_hidden=stream.discard == Discard.all,
        disposition=int(stream.disposition),
        tags=dict(stream.metadata),
    )


def _chapters(container: InputContainer) -> list[Chapter]:
    return [
        Chapter(
            start=chapter["start"],
            end=chapter["end"],
            time_base=chapter["time_base"] or Fraction(1, 1000),
            tags=dict(chapter["metadata"]),
        )
        for chapter in container.chapters()
    ]


def _codec_name(decoder: str) -> str:
    """Return the codec's own name for a decoder's (libdav1d reads av1)."""
    return av.Codec(decoder, "r").canonical_name
