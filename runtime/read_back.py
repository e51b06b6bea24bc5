"""The comparison of a finished file with its source: streams, tags, chapters and properties of the video."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from runtime.media.media_info import AnyStream, AudioStream, Crop, MediaInfo, VideoStream
from runtime.media.muxer import CONTAINER_TAGS
from runtime.media.output_tracks import file_tags, is_same_language
from runtime.media.stream_mapping import StreamPlan
from runtime.media.timecode import find_time_code
from runtime.media.verify import SideDataCheck
from runtime.media.wave_chunks import MARKS
from runtime.report import Action, PartOutcome

_NOT_FOUND: Final = "it was written, but is missing from the finished file"
_NO_TIME_CODE: Final = "the container does not support a time code at this frame rate"
_NO_CHUNK: Final = "it does not apply to the result"
_SHORT_TEXT: Final = 3
_SECONDS: Final = len("2024-05-01T10:20:30")

Pairs = dict[int, AnyStream]


def pair_streams(plans: Sequence[StreamPlan], result: MediaInfo) -> Pairs:
    """Return the stream of the result for each planned stream that is found in it, by index of the source's.

    The muxer keeps the order of the streams of one kind. A codec may be read under another name than it was written
    under, except for data, which a container may add itself.
    """
    left = list(result.streams)
    pairs: Pairs = {}
    for plan in plans:
        alike = [stream for stream in left if _kind(stream) == plan.kind] if plan.out_codec is not None else []
        same = [stream for stream in alike if stream.codec == plan.out_codec]
        found = next(iter(same or (alike if plan.kind != "data" else [])), None)
        if found is not None:
            left.remove(found)
            pairs[plan.index] = found
    return pairs


def actual_plan(
    plan: StreamPlan, pairs: Pairs, result: MediaInfo, *, written: Mapping[int, int], found: Mapping[int, int]
) -> StreamPlan:
    """Return the actual mapping of a stream, as found in the finished file.

    Args:
        plan: The planned mapping.
        pairs: The result of `pair_streams`.
        result: The finished file.
        written: Packets of copied streams, by index of the source's stream.
        found: Packets of subtitles and data in the finished file, by index of its streams; a container may add empty
            ones.
    """
    if plan.action is Action.TRANSCODED and plan.reason.startswith("the time code") and not find_time_code(result):
        return replace(plan, action=Action.NOT_CARRIED, reason=_NO_TIME_CODE)
    if plan.out_codec is None:
        return plan
    reason = "" if plan.index in pairs else _NOT_FOUND
    if plan.index in pairs and plan.kind in ("subtitle", "data"):
        wanted, there = written.get(plan.index, 0), found.get(pairs[plan.index].index, 0)
        reason = f"{wanted} packets were written, {there} are in the finished file" if there < wanted else ""
    return replace(plan, action=Action.NOT_CARRIED, out_codec=None, reason=reason) if reason else plan


def compare_parts(
    source: MediaInfo,
    result: MediaInfo,
    pairs: Pairs,
    *,
    encoded: Collection[int],
    side_data: Sequence[SideDataCheck],
    start: Fraction | None,
    end: Fraction | None,
) -> tuple[PartOutcome, ...]:
    """Return the outcome of everything except the streams.

    Args:
        source: The source.
        result: The finished file.
        pairs: The result of `pair_streams`.
        encoded: Indexes of the streams that were encoded.
        side_data: The side data of processed frames, as counted in the finished file.
        start: The start of the processed span.
        end: Its end.
    """
    found = [*_chapters(source, result, trimmed=start is not None or end is not None)]
    found += _tags(source, result, start)
    found += _time_code(source, result)
    found += _track_tags(source, pairs)
    found += _wave_chunks(source, result)
    for video in source.videos:
        after = pairs.get(video.index)
        if isinstance(after, VideoStream) and not video.is_attached_picture:
            found += _video(video, after, is_encoded=video.index in encoded)
    found += [_side_data(one) for one in side_data]
    return tuple(found)


def _kind(stream: AnyStream) -> str:
    if isinstance(stream, VideoStream):
        return "picture" if stream.is_attached_picture else "video"
    return "audio" if isinstance(stream, AudioStream) else stream.kind


def _chapters(source: MediaInfo, result: MediaInfo, *, trimmed: bool) -> Iterable[PartOutcome]:
    if not source.chapters:
        return
    count, kept = len(source.chapters), len(result.chapters)
    reason = ""
    if kept != count:
        lost = f"{kept} of {count} are in the selected part"
        reason = lost if trimmed else f"{result.path.suffix} kept {kept} of {count}"
    yield PartOutcome("chapters", count, Action.COPIED if kept else Action.NOT_CARRIED, reason)


def _tags(source: MediaInfo, result: MediaInfo, start: Fraction | None) -> Iterable[PartOutcome]:
    tags = {key: text for key, text in file_tags(source, start).items() if key.lower() not in CONTAINER_TAGS and text}
    if not tags:
        return
    there = [result.tags, *(stream.tags for stream in result.streams)]
    pairs = {(key.lower(), _plain(text)) for one in there for key, text in one.items()}
    texts = {text for _, text in pairs if len(text) > _SHORT_TEXT}
    lost = [key for key, text in tags.items() if (key.lower(), _plain(text)) not in pairs and _plain(text) not in texts]
    reason = f"{len(lost)} not kept: {', '.join(sorted(lost))}" if lost else ""
    yield PartOutcome("tags", len(tags), Action.COPIED if len(lost) < len(tags) else Action.NOT_CARRIED, reason)


def _plain(text: str) -> str:
    """Return a text without the parts that depend on the container: surrounding space, fractions of a second."""
    text = text.strip()
    return text[:_SECONDS] if text[10:11] == "T" and text[:4].isdecimal() else text


def _time_code(source: MediaInfo, result: MediaInfo) -> Iterable[PartOutcome]:
    if find_time_code(source) is not None and source.video is not None:
        kept = find_time_code(result)
        action = Action.NOT_CARRIED if kept is None else Action.COPIED
        yield PartOutcome("time code", 1, action, _NO_TIME_CODE if kept is None else f"it starts at {kept}")


def _track_tags(source: MediaInfo, pairs: Pairs) -> Iterable[PartOutcome]:
    """Yield the titles and languages of streams that were lost."""
    lost = []
    count = 0
    for stream in source.streams:
        after = pairs.get(stream.index)
        if after is None or _kind(stream) not in ("video", "audio", "subtitle"):
            continue
        for key in ("language", "title"):
            text = stream.tags.get(key, "")
            if not text or text == "und":
                continue
            count += 1
            found = after.tags.get(key, "")
            kept = is_same_language(found, text) if key == "language" else text in after.tags.values()
            if not kept:
                lost.append(f"{key} {text} of stream {stream.index}")
    if lost:
        yield PartOutcome("track tags", count, Action.NOT_CARRIED, ", ".join(lost))


def _wave_chunks(source: MediaInfo, result: MediaInfo) -> Iterable[PartOutcome]:
    there = {chunk.name for chunk in result.wave_chunks}
    for chunk in {chunk.name: chunk for chunk in source.wave_chunks}.values():
        if chunk.name in there:
            yield PartOutcome(chunk.label, 1, Action.COPIED)
        elif chunk.name in MARKS and result.chapters:
            yield PartOutcome(chunk.label, 1, Action.TRANSCODED, "they are chapters in the result")
        else:
            yield PartOutcome(chunk.label, 1, Action.NOT_CARRIED, _NO_CHUNK)


def _video(before: VideoStream, after: VideoStream, *, is_encoded: bool) -> Iterable[PartOutcome]:
    """Yield the outcome of the properties of a whole video track."""
    place = "the format or encoder of the result does not support it"
    if before.sample_aspect != after.sample_aspect:
        shape = f"{before.sample_aspect.numerator}:{before.sample_aspect.denominator}"
        close = abs(before.sample_aspect / after.sample_aspect - 1) < Fraction(1, 100)
        reason = f"rounded to {after.sample_aspect.numerator}:{after.sample_aspect.denominator}" if close else place
        yield PartOutcome(f"pixel shape {shape}", 1, Action.COPIED if close else Action.NOT_CARRIED, reason)
    if before.stereo is not None:
        kept = after.stereo == before.stereo
        name = f"stereo 3D ({before.stereo.name})"
        yield PartOutcome(name, 1, Action.COPIED if kept else Action.NOT_CARRIED, "" if kept else place)
    if before.spherical is not None:
        kept = after.spherical == before.spherical
        name = f"spherical projection ({before.spherical.name})"
        yield PartOutcome(name, 1, Action.COPIED if kept else Action.NOT_CARRIED, "" if kept else place)
    if before.header_time_code and is_encoded and "timecode" not in map(str.lower, after.tags):
        reason = "only a time code for the whole file is written"
        yield PartOutcome("time code in the frames", 1, Action.NOT_CARRIED, reason)
    if before.dolby_vision is not None:
        kept = after.dolby_vision == before.dolby_vision
        reason = "" if kept else "its metadata does not apply to the result; the base layer is kept"
        if not kept and not before.dolby_vision.is_compatible:
            reason = (
                f"profile {before.dolby_vision.profile} has wrong colours without its metadata: convert the file first"
            )
        name = f"Dolby Vision (profile {before.dolby_vision.profile})"
        yield PartOutcome(name, 1, Action.COPIED if kept else Action.NOT_CARRIED, reason)
    if before.crop is not None and is_encoded:
        yield PartOutcome(
            "cropping", 1, Action.TRANSCODED, f"{_edges(before.crop)} were cropped, as the source specifies"
        )
    elif before.crop is not None:
        kept = after.crop == before.crop
        reason = "" if kept else f"{_edges(before.crop)} are visible, although the source hides them"
        yield PartOutcome("cropping", 1, Action.COPIED if kept else Action.NOT_CARRIED, reason)


def _edges(crop: Crop) -> str:
    return f"{crop.left} and {crop.right} columns and {crop.top} and {crop.bottom} rows at the edges"


def _side_data(check: SideDataCheck) -> PartOutcome:
    if check.found == check.written:
        return PartOutcome(check.name, check.written, Action.COPIED, f"in {check.written} frames")
    reason = f"found in {check.found} of {check.written} frames"
    return PartOutcome(check.name, check.written, Action.NOT_CARRIED, reason)
