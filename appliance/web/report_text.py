"""A report in sentences that need no knowledge of codecs."""

from collections.abc import Iterator
from typing import Final

from appliance.progress import describe_duration
from appliance.text import format_bytes
from runtime.action import Action
from runtime.report import PictureReport, Report

_NO_PLACE: Final = "the format of the result cannot hold it"


def describe_report(report: Report) -> list[str]:
    """Say what was done, what was kept, and what to look out for."""
    return list(_sentences(report))


def _sentences(report: Report) -> Iterator[str]:
    if report.picture is not None:
        yield from _picture(report.picture)
    yield from _sound(report)
    yield from _streams(report)
    if report.check_failures:
        yield f"The check of the finished file failed: {'; '.join(report.check_failures)}."
    speed = report.speed
    rate = f", {speed.fps:.1f} pictures a second" if speed.fps else ""
    yield f"It took {describe_duration(speed.wall_s)}{rate}; the result has {format_bytes(report.result.size_bytes)}."
    for warning in report.warnings:
        yield f"Please note: {warning}."


def _picture(picture: PictureReport) -> Iterator[str]:
    before, after = picture.source, picture.result
    sizes = f"{before.width} by {before.height}"
    if (before.width, before.height) == (after.width, after.height):
        yield f"The picture was cleaned at its own size, {sizes} pixels."
    else:
        yield f"The picture was enlarged from {sizes} to {after.width} by {after.height} pixels."
    if picture.frames_in == picture.frames_out and picture.pts_equal:
        yield f"All {picture.frames_out} pictures are there, each at its exact time."
    else:
        yield f"Of {picture.frames_in} pictures, {picture.frames_out} are in the result; their times were changed."
    if picture.deinterlaced:
        yield "The film was interlaced, as television once was; its half pictures were put together."
    if picture.strength < 1:
        yield f"The effect was applied at {picture.strength:.0%} of its strength."
    if picture.state_resets:
        yield f"{len(picture.state_resets)} places had to be worked out a second time."


def _sound(report: Report) -> Iterator[str]:
    for number, track in enumerate(report.sound, start=1):
        which = "The sound" if len(report.sound) == 1 else f"Sound track {number}"
        if track.mode == "off" or track.strength is None:
            yield f"{which} was copied unchanged."
            continue
        yield f"{which} was cleaned of noise, and the voices were kept."
        if track.guard_share:
            yield f"For {track.guard_share:.0%} of the time less noise was taken out, so that no voice was harmed."
    for offset in report.av_offsets:
        if offset.before == offset.after:
            yield "Sound and picture are together exactly as in the source."
            break


def _capitalised(text: str) -> str:
    """Write the first letter large and leave the others, which may be a name's."""
    return text[:1].upper() + text[1:]


def _streams(report: Report) -> Iterator[str]:
    copied = [stream for stream in report.streams if stream.action is Action.COPIED and stream.kind != "video"]
    subtitles = sum(stream.kind == "subtitle" for stream in copied)
    if subtitles:
        yield f"{subtitles} subtitle{'s were' if subtitles > 1 else ' was'} kept."
    for stream in report.streams:
        if stream.action is Action.NOT_CARRIED:
            yield f"One part of the file ({stream.kind}) could not be kept: {stream.reason or _NO_PLACE}."
    for part in report.parts:
        if part.action is Action.NOT_CARRIED:
            yield f"{_capitalised(part.what)} could not be kept: {part.reason or _NO_PLACE}."
        elif part.action is Action.TRANSCODED or (part.what in ("tags", "chapters") and part.reason):
            yield f"{_capitalised(part.what)}: {part.reason}."
