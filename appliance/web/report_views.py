"""A job's report as plain sentences, and as a page for printing."""

import time
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from appliance.console import describe_duration, format_bytes
from appliance.jobs.job import JobRecord
from runtime.presets import PRESETS
from runtime.report import Action, FinishReport, Report, VideoFacts, VideoReport

_UNSUPPORTED: Final = "the format of the result does not support it"


def describe_report(report: Report) -> list[str]:
    """Return sentences about the processing, the streams and warnings."""
    return list(_sentences(report))


def _sentences(report: Report) -> Iterator[str]:
    if report.picture is not None:
        yield from _video(report.picture)
    yield from _audio(report)
    yield from _streams(report)
    if report.check_failures:
        yield f"Verification of the result failed: {'; '.join(report.check_failures)}."
    speed = report.speed
    rate = f" ({speed.fps:.1f} fps)" if speed.fps else ""
    size = format_bytes(report.result.size_bytes)
    yield f"Processed in {_time_taken(speed.wall_s)}{rate}. File size: {size}."
    for warning in report.warnings:
        yield f"Note: {warning}."


def _video(video: VideoReport) -> Iterator[str]:
    before, after = video.source, video.result
    size = f"{before.width} × {before.height}"
    if (before.width, before.height) == (after.width, after.height):
        yield f"Video cleaned at its original size, {size}."
    else:
        yield f"Video upscaled from {size} to {after.width} × {after.height}."
    if video.frames_in == video.frames_out and video.pts_equal:
        yield f"All {video.frames_out} frames preserved with exact timing."
    else:
        yield f"The result has {video.frames_out} of {video.frames_in} frames; their timing was changed."
    if video.deinterlaced:
        yield "Interlaced video was deinterlaced."
    if video.strength < 1:
        yield f"Strength: {video.strength:.0%}."
    if video.grain:
        yield f"Film grain: {video.grain:.0%} of the removed noise."
    if video.state_resets:
        yield f"{_count(len(video.state_resets), 'tile')} processed a second time because of invalid values."
    if video.kept_tiles and video.tiling is not None:
        share = video.kept_tiles / max(1, video.tiling.tiles_per_frame * video.frames_in)
        yield f"{share:.0%} of the video did not change and was not processed again."


def _capital(text: str) -> str:
    """Capitalise the first letter and leave the others unchanged, unlike `str.capitalize`."""
    return text[:1].upper() + text[1:]


def _time_taken(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole // 60 % 60} min"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun} was" if number == 1 else f"{number} {noun}s were"


def _audio(report: Report) -> Iterator[str]:
    for number, track in enumerate(report.sound, start=1):
        which = "" if len(report.sound) == 1 else f"Audio track {number}: "
        if track.mode == "off" or track.strength is None:
            if track.finish is None:
                yield _capital(f"{which}audio copied unchanged.")
        else:
            yield _capital(f"{which}background noise removed from speech.")
        if track.finish is not None:
            yield from (_capital(f"{which}{sentence}") for sentence in _finish(track.finish))
        if track.guard_share is not None and track.guard_share >= 0.005:
            yield _capital(
                f"{which}noise reduction was lowered for {track.guard_share:.0%} of the time to protect speech."
            )
    for offset in report.av_offsets:
        if offset.before == offset.after:
            yield "Audio and video in sync, exactly as in the source."
            break


def _finish(finish: FinishReport) -> Iterator[str]:
    if finish.hum_hz:
        yield f"hum at {', '.join(f'{hz:.0f}' for hz in finish.hum_hz)} Hz removed."
    if finish.clipped_share:
        yield f"clipping repaired ({finish.clipped_share:.2%} of the samples)."
    if finish.levelled_db >= 1:
        yield f"speakers brought up to {finish.levelled_db:.0f} dB closer to each other."
    before, after = finish.source, finish.result
    if after is None or after.integrated is None or before.integrated is None:
        return
    limited = ", peaks limited" if finish.is_limited else ""
    yield (
        f"loudness {before.integrated:.1f} LUFS before, {after.integrated:.1f} LUFS after; "
        f"true peak {after.true_peak or 0:.1f} dBTP{limited}."
    )


def _streams(report: Report) -> Iterator[str]:
    copied = [stream for stream in report.streams if stream.action is Action.COPIED and stream.kind != "video"]
    subtitles = sum(stream.kind == "subtitle" for stream in copied)
    if subtitles:
        yield f"{subtitles} subtitle track{'s' if subtitles > 1 else ''} kept."
    for stream in report.streams:
        if stream.action is Action.NOT_CARRIED:
            yield f"A stream ({stream.kind}) could not be kept: {stream.reason or _UNSUPPORTED}."
    for part in report.parts:
        if part.action is Action.NOT_CARRIED:
            yield f"{_capital(part.what)} could not be kept: {part.reason or _UNSUPPORTED}."
        elif part.action is Action.TRANSCODED or (part.what in ("tags", "chapters") and part.reason):
            yield f"{_capital(part.what)}: {part.reason}."


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/page/css/report.css">
<script type="module" src="/page/js/report.js"></script>
</head>
<body>
<header><p>Relume {version} · processing report</p><h1 translate="no">{name}</h1></header>
{body}
</body>
</html>
"""


def write_report_page(job: JobRecord, report: Report, *, stills: bool = False) -> str:
    """Return the report as an HTML page; all text is escaped.

    It is in English; its script translates it to the user's language with the texts of the page.

    Args:
        job: The job.
        report: Its report.
        stills: The job has still pictures before and after.
    """
    sections = [
        _section("Summary", _list(describe_report(report))),
        *([_section("Comparison", _stills(job))] if stills else []),
        _section("Files", _table(("", "Source", "Result"), _files(job, report))),
        _section("Processing details", _table(("", ""), _processing(job, report))),
        _section("Streams", _table(("Stream", "Kind", "Source", "Result", "Handling"), _stream_rows(report))),
    ]
    name = _text(job.title)
    return _TEMPLATE.format(
        title=escape(f"{Path(name).stem} - report"),
        name=escape(name),
        version=escape(report.relume),
        body="\n".join(sections),
    )


def _files(job: JobRecord, report: Report) -> Iterable[Sequence[str]]:
    source, result = report.source, report.result
    yield "Name", _Name(job.title), _Name(Path(result.path).name)
    yield "Container", source.container, result.container
    yield "Size", format_bytes(source.size_bytes), format_bytes(result.size_bytes)
    yield "Duration", _duration(source.duration_s), _duration(result.duration_s)
    if report.picture is not None:
        before, after = report.picture.source, report.picture.result
        yield "Video", _describe(before), _describe(after)
        yield "Colour", _colour(before), _colour(after)
        yield "Frames", str(report.picture.frames_in), str(report.picture.frames_out)
    for track in report.sound:
        yield f"Audio samples, stream {track.index}", str(track.samples_in), str(track.samples_out)
    if job.source_digest:
        yield "SHA-256 of the source", job.source_digest, ""


def _processing(job: JobRecord, report: Report) -> Iterable[Sequence[str]]:
    preset = PRESETS.get(report.preset)
    yield "Preset", report.preset if preset is None else f"{preset.title} · {preset.name}"
    if report.picture is not None:
        yield "Scale", f"{report.picture.scale}×"
        yield "Video strength", f"{report.picture.strength:.0%}"
        yield "Frame timing", "unchanged" if report.picture.pts_equal else "changed"
    for track in report.sound:
        handling = "copied" if track.finish is None else "repaired" if track.finish.is_repaired else "level changed"
        if track.strength is not None:
            handling = f"speech enhanced, strength {track.strength:.0%}"
        yield f"Audio, stream {track.index}", handling
        if track.finish is not None:
            yield f"Loudness, stream {track.index}", _loudness(track.finish)
    for engine in report.engines:
        yield "Model", f"{engine.model}, {engine.precision} on {engine.backend}, SHA-256 {engine.sha256}"
    yield "Processing time", describe_duration(report.speed.wall_s)
    for word, moment in (("Started", job.started_at), ("Finished", job.finished_at)):
        if moment is not None:
            yield word, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
    yield "Verification", "passed" if not report.check_failures else "; ".join(report.check_failures)


def _loudness(finish: FinishReport) -> str:
    facts = (("before", finish.source), ("after", finish.result))
    measured = [
        f"{name} {one.integrated:.1f} LUFS, {one.true_peak:.1f} dBTP"
        for name, one in facts
        if one is not None and one.integrated is not None and one.true_peak is not None
    ]
    target = "" if finish.target_lufs is None else f"; target {finish.target_lufs:g} LUFS, {finish.ceiling_dbtp:g} dBTP"
    return (", ".join(measured) or "silence") + target


def _stream_rows(report: Report) -> Iterable[Sequence[str]]:
    for stream in report.streams:
        handling = str(stream.action) + (f": {stream.reason}" if stream.reason else "")
        yield str(stream.index), stream.kind, stream.codec, stream.out_codec or "-", handling
    for part in report.parts:
        handling = str(part.action) + (f": {part.reason}" if part.reason else "")
        yield "", part.what, str(part.count), "", handling


def _describe(facts: VideoFacts) -> str:
    rate = f", {facts.frame_rate} fps" if facts.frame_rate else ""
    return f"{facts.width} × {facts.height}, {facts.bits}-bit, {facts.pixel_format}{rate}"


def _colour(facts: VideoFacts) -> str:
    return f"{facts.matrix}, {facts.primaries}, {facts.transfer}, {facts.colour_range}"


def _duration(seconds: float | None) -> str:
    return "unknown" if seconds is None else describe_duration(seconds)


def _stills(job: JobRecord) -> str:
    """Return the same frame before and after, which is written beside the preview proxies."""
    sides = (("before", "Source"), ("after", "Result"))
    folder = f"/api/jobs/{escape(job.id)}"
    figures = (
        f'<figure><img src="{folder}/still-{side}" alt="{word}"><figcaption>{word}</figcaption></figure>'
        for side, word in sides
    )
    return f'<div class="stills">{"".join(figures)}</div>'


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(_text(line))}</li>" for line in lines) + "</ul>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in headings)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    mark = ' translate="no"' if isinstance(text, _Name) else ""
    return f"<td{mark}>{escape(_text(text))}</td>"


class _Name(str):
    """The name of a file, which is not translated."""


def _text(text: str) -> str:
    """Replace what is not valid Unicode, as in the name of a file."""
    return text.encode("utf-8", "replace").decode()
