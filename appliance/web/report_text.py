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
    rate = f" ({speed.fps:.1f} fps)" if speed.fps else ""
    size = format_bytes(report.result.size_bytes)
    yield f"Processed in {describe_duration(speed.wall_s)}{rate}. File size {size}."
    for warning in report.warnings:
        yield f"Note: {warning}."


def _picture(picture: PictureReport) -> Iterator[str]:
    before, after = picture.source, picture.result
    size = f"{before.width} × {before.height}"
    if (before.width, before.height) == (after.width, after.height):
        yield f"Video cleaned at its original size, {size}."
    else:
        yield f"Video upscaled from {size} to {after.width} × {after.height}."
    if picture.frames_in == picture.frames_out and picture.pts_equal:
        yield f"All {picture.frames_out} frames preserved with exact timing."
    else:
        yield f"{picture.frames_out} of {picture.frames_in} frames are in the result; their timing was changed."
    if picture.deinterlaced:
        yield "Interlaced video was deinterlaced."
    if picture.strength < 1:
        yield f"Strength {picture.strength:.0%}."
    if picture.state_resets:
        yield f"{len(picture.state_resets)} places were processed a second time."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _sound(report: Report) -> Iterator[str]:
    for number, track in enumerate(report.sound, start=1):
        which = "" if len(report.sound) == 1 else f"Audio track {number}: "
        if track.mode == "off" or track.strength is None:
            yield _capital(f"{which}audio copied unchanged.")
            continue
        yield _capital(f"{which}background noise removed from speech.")
        if track.guard_share:
            yield _capital(
                f"{which}noise reduction was lowered for {track.guard_share:.0%} of the time to protect speech."
            )
    for offset in report.av_offsets:
        if offset.before == offset.after:
            yield "Audio and video in sync, exactly as in the source."
            break


def _capitalised(text: str) -> str:
    """Write the first letter large and leave the others, which may be a name's."""
    return text[:1].upper() + text[1:]


def _streams(report: Report) -> Iterator[str]:
    copied = [stream for stream in report.streams if stream.action is Action.COPIED and stream.kind != "video"]
    subtitles = sum(stream.kind == "subtitle" for stream in copied)
    if subtitles:
        yield f"{subtitles} subtitle track{'s' if subtitles > 1 else ''} kept."
    for stream in report.streams:
        if stream.action is Action.NOT_CARRIED:
            yield f"One part of the file ({stream.kind}) could not be kept: {stream.reason or _NO_PLACE}."
    for part in report.parts:
        if part.action is Action.NOT_CARRIED:
            yield f"{_capitalised(part.what)} could not be kept: {part.reason or _NO_PLACE}."
        elif part.action is Action.TRANSCODED or (part.what in ("tags", "chapters") and part.reason):
            yield f"{_capitalised(part.what)}: {part.reason}."
