"""The report of a job as text for a terminal."""

from collections.abc import Iterable
from pathlib import Path

from appliance.progress import describe_duration
from appliance.text import format_bytes, format_table
from runtime.action import Action
from runtime.report import PictureFacts, Report


def summarise(report: Report, report_path: Path | None = None) -> str:
    """Write the facts that matter, a line each, and below them the streams and warnings."""
    rows = [
        ("result", f"{report.result.path} ({format_bytes(report.result.size_bytes)})"),
        *([("report", str(report_path))] if report_path else []),
        *([("before/after", report.compare)] if report.compare else []),
        ("check", _describe_check(report)),
        *_picture_rows(report),
        *_sound_rows(report),
        *_offset_rows(report),
        *_engine_rows(report),
        *_speed_rows(report),
    ]
    parts = [format_table(rows), format_table(_stream_rows(report))]
    if report.warnings:
        parts.append("\n".join(f"warning: {warning}" for warning in report.warnings))
    return "\n\n".join(parts)


def _describe_check(report: Report) -> str:
    if report.check_failures:
        return f"FAILED: {'; '.join(report.check_failures)}"
    return "the finished file was read back: every picture and sample is at its place"


def _picture_rows(report: Report) -> Iterable[tuple[str, str]]:
    picture = report.picture
    if picture is None:
        return
    yield (
        "video",
        f"{_describe(picture.source)} -> {_describe(picture.result)}; {picture.scale_reason}",
    )
    times = "times unchanged" if picture.pts_equal else "TIMES CHANGED"
    yield "frames", f"{picture.frames_in} in, {picture.frames_out} out, {times}"
    if picture.deinterlaced:
        yield "interlaced", picture.interlace_reason or "deinterlaced"
    if picture.scene_cuts:
        yield "scene cuts", ", ".join(f"frame {number}" for number in picture.scene_cuts[:12])
    if picture.state_resets:
        cured = sum(reset.cured for reset in picture.state_resets)
        yield "repaired", f"{cured} of {len(picture.state_resets)} tiles that were not finite"


def _sound_rows(report: Report) -> Iterable[tuple[str, str]]:
    for track in report.sound:
        text = f"{track.mode}: {track.samples_in} samples in, {track.samples_out} out"
        if track.guard_share is not None:
            text += f"; noise reduction reduced for {track.guard_share:.0%} of the time"
        yield f"audio {track.index}", text


def _offset_rows(report: Report) -> Iterable[tuple[str, str]]:
    for offset in report.av_offsets:
        yield (
            f"audio/video offset {offset.index}",
            "unchanged"
            if offset.before == offset.after
            else f"audio starts {_place(offset.before)} in the source, {_place(offset.after)} in the result",
        )


def _engine_rows(report: Report) -> Iterable[tuple[str, str]]:
    for engine in report.engines:
        yield "model", f"{engine.model} ({engine.precision}) on {engine.backend}"
    for reason in dict.fromkeys(engine.reason for engine in report.engines):
        yield "backend", reason


def _speed_rows(report: Report) -> Iterable[tuple[str, str]]:
    speed = report.speed
    rate = f", {speed.fps:.1f} fps" if speed.fps is not None else ""
    memory = format_bytes(speed.peak_memory_bytes)
    if report.resumes:
        yield "resumed", f"resumed after {report.resumes} interruption{'s' if report.resumes > 1 else ''}"
    yield "speed", f"{describe_duration(speed.wall_s)}{rate}, peak memory {memory}"
    if speed.stages:
        yield "time spent", ", ".join(f"{entry.stage} {entry.seconds:.1f} s" for entry in speed.stages)


def _stream_rows(report: Report) -> Iterable[tuple[str, ...]]:
    yield "stream", "kind", "source", "result", "what happened"
    for stream in report.streams:
        what = str(stream.action) + (f": {stream.reason}" if stream.reason else "")
        yield str(stream.index), stream.kind, stream.codec, stream.out_codec or "-", what
    for part in report.parts:
        fate = str(part.action) + (f": {part.reason}" if part.reason else "")
        shown = str(part.count) if part.action is not Action.NOT_CARRIED else "-"
        yield "", part.what, str(part.count), shown, fate


def _place(samples: int) -> str:
    if samples == 0:
        return "with the video"
    return f"{abs(samples)} samples {'after' if samples > 0 else 'before'} the video"


def _describe(facts: PictureFacts) -> str:
    return f"{facts.width}x{facts.height} {facts.bits} bit"
