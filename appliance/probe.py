"""`relume probe`: the streams of a media file, and how it is damaged."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

from appliance.console import format_bytes, format_json, format_table
from appliance.watch.integrity import find_damage, find_missing_end
from runtime.advice import Advice, advise
from runtime.errors import DecodeError, MediaError
from runtime.media.audio_reader import AudioReader
from runtime.media.damage import Hole
from runtime.media.deinterlace import Interlacing
from runtime.media.probe import AudioStream, MediaInfo, OtherStream, VideoStream, probe
from runtime.media.video_reader import VideoReader

AnyStream = VideoStream | AudioStream | OtherStream


@dataclass(frozen=True, slots=True)
class StreamCheck:
    """The result of decoding a whole stream.

    holes: The damaged passages.
    faults: Messages about other problems.
    """

    index: int
    kind: str
    holes: tuple[Hole, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """The streams of a media file, and how it is damaged.

    damage: The message of the integrity check that watch folders use; None if it finds nothing.
    checks: One for each decoded video and audio stream; None if decoding was not requested.
    advice: What is wrong with the quality, and which preset helps; None if it was not requested.
    """

    info: MediaInfo
    damage: str | None
    checks: tuple[StreamCheck, ...] | None = None
    advice: Advice | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether any damage was found."""
        return self.damage is not None or any(check.holes or check.faults for check in self.checks or ())


def examine(file: Path, *, decodes: bool = False, advises: bool = False) -> Examination:
    """Read the streams of a media file and check its end.

    Args:
        file: The file.
        decodes: Also decode every frame and sample.
        advises: Also measure the quality of samples from several places.

    Raises:
        DecodeError: The file cannot be read, or is too incomplete to be opened.
        UnsupportedMediaError: Relume does not support the file.
    """
    info = probe_whole(file)
    checks = tuple(_check_streams(info)) if decodes else None
    return Examination(info, find_damage(info), checks, advise(info) if advises else None)


def probe_whole(file: Path) -> MediaInfo:
    """Probe a media file; if this fails because the file is incomplete, the error says so.

    Raises:
        DecodeError: The file cannot be read, or is incomplete.
        UnsupportedMediaError: Relume does not support the file.
    """
    try:
        return probe(file)
    except MediaError as error:
        reason = find_missing_end(file)
        if reason is None:
            raise
        raise DecodeError(f"{file}: {reason}") from error


def show_probe(file: Path, *, as_json: bool) -> str:
    """Return the streams of a media file as text or JSON.

    Raises:
        DecodeError: The file cannot be read.
        UnsupportedMediaError: Relume does not support the file.
    """
    return show_examination(examine(file), as_json=as_json)


def show_examination(found: Examination, *, as_json: bool) -> str:
    """Return an examination as text or JSON."""
    info = found.info
    if as_json:
        chunks = [chunk.label for chunk in info.wave_chunks]
        facts = asdict(replace(info, wave_chunks=())) | {"wave_chunks": chunks, "damage": found.damage}
        if found.checks is not None:
            facts["checks"] = [asdict(check) for check in found.checks]
        if found.advice is not None:
            facts["advice"] = asdict(found.advice)
        return format_json(facts)
    streams: list[AnyStream] = [*info.videos, *info.audios, *info.others]
    streams.sort(key=lambda stream: stream.index)
    rows = [("stream", "kind", "codec", "details"), *(_stream_row(stream) for stream in streams)]
    tables = [format_table([*_file_rows(info), *_damage_rows(found)]), format_table(rows)]
    if found.checks is not None:
        tables.append(format_table([("stream", "kind", "at", "length"), *_check_rows(found.checks)]))
    if found.advice is not None:
        tables.append(format_table(list(_advice_rows(found.advice))))
    return "\n\n".join(tables)


def _advice_rows(advice: Advice) -> Iterable[tuple[str, str]]:
    for finding in advice.findings:
        yield "found", finding.text
    if advice.video is not None:
        video = advice.video
        yield "video", f"noise {video.noise:g} of 255, blockiness {video.blockiness:g}, brightness {video.brightness:g}"
    if advice.audio is not None and advice.audio.analysis.loudness.integrated is not None:
        analysis = advice.audio.analysis
        floor = "" if analysis.noise_floor is None else f", quietest parts {analysis.noise_floor:.1f} dBFS"
        peak = analysis.loudness.true_peak or 0.0
        yield "audio", f"{analysis.loudness.integrated:.1f} LUFS, true peak {peak:.1f} dBTP{floor}"
    yield "preset", advice.reason if advice.preset is None else f"{advice.preset}: {advice.reason}"


def _check_streams(info: MediaInfo) -> Iterable[StreamCheck]:
    """Decode every video and audio stream as a job does, and collect the damage it would report."""
    threads = len(os.sched_getaffinity(0))
    streams: list[VideoStream | AudioStream] = [*info.videos, *info.audios]
    for stream in sorted(streams, key=lambda stream: stream.index):
        is_video = isinstance(stream, VideoStream)
        if isinstance(stream, VideoStream) and stream.is_attached_picture:
            continue
        holes: tuple[Hole, ...] = ()
        faults: list[str] = []
        reader: VideoReader | AudioReader
        try:
            if isinstance(stream, VideoStream):
                reader = VideoReader(info.path, stream, threads=threads, interlacing=Interlacing(interlaced=False))
            else:
                reader = AudioReader(info.path, stream)
            with reader:
                try:
                    for _ in reader:
                        pass
                finally:
                    holes = reader.holes
                faults += [reader.early_end] if reader.early_end else []
        except MediaError as error:
            faults.append(str(error))
        yield StreamCheck(stream.index, "video" if is_video else "audio", holes, tuple(faults))


def _damage_rows(found: Examination) -> Iterable[tuple[str, str]]:
    if found.damage is not None:
        yield "damage", found.damage
    elif found.checks is None:
        yield "damage", "none found at the end; use --check to decode the whole file"
    elif found.is_damaged:
        yield "damage", "see below"
    else:
        yield "damage", "none found"


def _check_rows(checks: Iterable[StreamCheck]) -> Iterable[tuple[str, str, str, str]]:
    for check in checks:
        index = str(check.index)
        for hole in check.holes:
            yield index, check.kind, f"{hole.start_s:.3f} s", f"{hole.duration_s:.3f} s"
        for fault in check.faults:
            yield index, check.kind, fault, ""
        if not (check.holes or check.faults):
            yield index, check.kind, "no damage", ""


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
            kind = "cover art" if stream.is_attached_picture else "video"
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
    yield f"{':'.join(stream.chroma)} {stream.bit_depth}-bit"
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
