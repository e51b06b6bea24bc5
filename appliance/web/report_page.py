"""The report of a job as a page for printing: complete in itself, for a client or a file."""

import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from appliance.jobs.records import JobRecord
from appliance.progress import describe_duration
from appliance.text import format_bytes
from appliance.web.report_text import describe_report
from runtime.presets import PRESETS
from runtime.report import PictureFacts, Report

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/page/css/report.css">
</head>
<body>
<header><p>Relume {version} · processing report</p><h1>{name}</h1></header>
{body}
</body>
</html>
"""


def write_report_page(job: JobRecord, report: Report) -> str:
    """Write the page; all text in it is escaped, and it has no script."""
    sections = [
        _section("Summary", _list(describe_report(report))),
        _section("Files", _table(("", "Source", "Result"), _files(job, report))),
        _section("Processing", _table(("", ""), _processing(job, report))),
        _section("Streams", _table(("Stream", "Kind", "Source", "Result", "Handling"), _streams(report))),
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
    yield "Name", _text(job.title), _text(Path(result.path).name)
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
        yield "Digest of the source", job.source_digest, ""


def _processing(job: JobRecord, report: Report) -> Iterable[Sequence[str]]:
    preset = PRESETS.get(report.preset)
    yield "Preset", report.preset if preset is None else f"{preset.title} ({preset.name})"
    if report.picture is not None:
        yield "Scale", f"{report.picture.scale}×"
        yield "Video strength", f"{report.picture.strength:.0%}"
        yield "Frame times", "unchanged" if report.picture.pts_equal else "changed"
    for track in report.sound:
        strength = "copied" if track.strength is None else f"speech enhanced, strength {track.strength:.0%}"
        yield f"Audio, stream {track.index}", strength
    for engine in report.engines:
        yield "Model", f"{engine.model}, {engine.precision} on {engine.backend}, SHA-256 {engine.sha256}"
    yield "Processing time", describe_duration(report.speed.wall_s)
    for word, moment in (("Started", job.started_at), ("Finished", job.finished_at)):
        if moment is not None:
            yield word, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
    yield "Check of the result", "passed" if not report.check_failures else "; ".join(report.check_failures)


def _streams(report: Report) -> Iterable[Sequence[str]]:
    for stream in report.streams:
        handling = str(stream.action) + (f": {stream.reason}" if stream.reason else "")
        yield str(stream.index), stream.kind, stream.codec, stream.out_codec or "-", handling
    for part in report.parts:
        handling = str(part.action) + (f": {part.reason}" if part.reason else "")
        yield "", part.what, str(part.count), "", handling


def _describe(facts: PictureFacts) -> str:
    rate = f", {facts.frame_rate} fps" if facts.frame_rate else ""
    return f"{facts.width} × {facts.height}, {facts.bits} bit, {facts.pixel_format}{rate}"


def _colour(facts: PictureFacts) -> str:
    return f"{facts.matrix}, {facts.primaries}, {facts.transfer}, {facts.colour_range}"


def _duration(seconds: float | None) -> str:
    return "unknown" if seconds is None else describe_duration(seconds)


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(_text(line))}</li>" for line in lines) + "</ul>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(_text(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    """Make text that UTF-8 can carry of a name that is none."""
    return text.encode("utf-8", "replace").decode()
