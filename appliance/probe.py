"""What `relume probe` shows of a media file."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

from appliance.text import format_bytes, format_json, format_table
from runtime.media.probe import AudioStream, MediaInfo, OtherStream, VideoStream, probe

AnyStream = VideoStream | AudioStream | OtherStream


def show_probe(file: Path, *, as_json: bool) -> str:
    """Show what is in a media file, as text or JSON.

    Raises:
        DecodeError: The file cannot be read.
        UnsupportedMediaError: The file is nothing that Relume enhances.
    """
    info = probe(file)
    if as_json:
        chunks = [chunk.label for chunk in info.wave_chunks]
        return format_json(asdict(replace(info, wave_chunks=())) | {"wave_chunks": chunks})
    streams: list[AnyStream] = [*info.videos, *info.audios, *info.others]
    streams.sort(key=lambda stream: stream.index)
    rows = [("stream", "kind", "codec", "what"), *(_stream_row(stream) for stream in streams)]
    return f"{format_table(_file_rows(info))}\n\n{format_table(rows)}"


def _file_rows(info: MediaInfo) -> Iterable[tuple[str, str]]:
    yield "file", str(info.path)
    yield "container", info.container
    yield "size", format_bytes(info.size_bytes)
    yield "duration", "unknown" if info.duration is None else _seconds(info.duration)
    for number, chapter in enumerate(info.chapters, start=1):
        start, end = chapter.start * chapter.time_base, chapter.end * chapter.time_base
        title = chapter.tags.get("title", "")
        yield f"chapter {number}", f"{_seconds(start)} to {_seconds(end)} {title}"
    yield from info.tags.items()
    for chunk in info.wave_chunks:
        yield "chunk", chunk.label


def _stream_row(stream: AnyStream) -> tuple[str, str, str, str]:
    index, language = str(stream.index), stream.tags.get("language", "und")
    match stream:
        case VideoStream():
            kind = "picture" if stream.is_attached_picture else "video"
            return index, kind, stream.codec, ", ".join(_video_facts(stream))
        case AudioStream():
            facts = [f"{stream.sample_rate} Hz", stream.layout]
            kind = "audio"
        case OtherStream():
            facts, kind = [], stream.kind
    return index, kind, stream.codec, ", ".join([*facts, *([language] if language != "und" else [])])


def _video_facts(stream: VideoStream) -> Iterable[str]:
    yield f"{stream.width}x{stream.height}"
    if stream.crop is not None:
        yield "cropped by the container"
    if stream.stereo is not None:
        yield f"stereo 3D {stream.stereo.name}"
    if stream.spherical is not None:
        yield f"spherical {stream.spherical.name}"
    yield f"{stream.chroma} {stream.bit_depth} bit"
    if stream.average_rate is not None:
        yield f"{float(stream.average_rate):.6g} fps"
    if stream.frames is not None:
        yield f"{stream.frames} frames"
    yield f"{stream.colour.matrix} {'full' if stream.colour.full_range else 'limited'} range"
    if stream.colour.is_hdr:
        yield f"HDR ({stream.colour.transfer})"
    if stream.sample_aspect != 1:
        yield f"pixels {stream.sample_aspect.numerator}:{stream.sample_aspect.denominator}"
    if stream.rotation:
        yield f"rotated by {stream.rotation} degrees"
    if stream.field_order not in ("progressive", "unknown"):
        yield f"interlaced, {stream.field_order} field first"
    if stream.has_alpha:
        yield "with alpha"


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f} s"
