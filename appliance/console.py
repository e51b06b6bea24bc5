"""Console output: tables, units, JSON, and the summaries of presets, diagnosis and jobs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument, TyperCommand

from appliance.validation_messages import clean_message
from runtime.presets import PRESETS, Preset
from runtime.report import Action, Report, VideoFacts

if TYPE_CHECKING:
    from typer import Context

    from runtime.doctor import Diagnosis


def format_table(rows: Iterable[Sequence[str]]) -> str:
    """Align rows in columns, two spaces apart; the last column is not padded."""
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    columns = max((len(row) for row in cells), default=0)
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(columns)]
    lines = ("  ".join(f"{cell:<{widths[i]}}" for i, cell in enumerate(row)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def format_bytes(count: int) -> str:
    """Format a number of bytes with a decimal unit."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000.0:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        size /= 1000.0
    return f"{size:.3g} TB"


def describe_disk_full(needed_bytes: int, free_bytes: int, reserve_bytes: int) -> str:
    """Return a message for a full disk that includes the reserve, without which the numbers would not add up."""
    reserved = (
        f", of which {format_bytes(reserve_bytes)} must stay free (Settings, Disk reserve)" if reserve_bytes else ""
    )
    return (
        f"not enough disk space: {format_bytes(needed_bytes)} needed, {format_bytes(free_bytes)} free"
        f"{reserved}; delete old results"
    )


def format_json(value: Any) -> str:
    """Format data as JSON; fractions and paths become strings."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


class PlainCommand(TyperCommand):
    """A command with plain help and error messages, with a usage line such as `relume enhance [OPTIONS] INPUT`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Create the command; the help does not show the types of arguments."""
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005

    def collect_usage_pieces(self, ctx: "Context") -> list[str]:  # type: ignore[override]
        """Omit the braces around required arguments."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:  # type: ignore[override]
        """Clean the messages of invalid options."""
        try:
            parsed: list[str] = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = clean_message(error.message)
            raise
        return parsed


def examples(*lines: str) -> dict[str, Any]:
    """Return the keyword arguments that append examples to the help of a command."""
    return {"epilog": "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)}


def show_presets(*, as_json: bool) -> str:
    """Return all presets as text or JSON."""
    if as_json:
        return format_json([_preset_fields(preset) for preset in PRESETS.values()])
    header = ("preset", "title", "scale", "video", "audio", "description")
    return format_table([header, *(_preset_row(preset) for preset in PRESETS.values())])


def show_diagnosis(diagnosis: "Diagnosis", *, as_json: bool) -> str:
    """Return the diagnosis of `relume doctor` as text or JSON."""
    if as_json:
        return format_json(asdict(diagnosis))
    sections = (
        ("machine", _machine_rows(diagnosis)),
        ("backends", _backend_rows(diagnosis)),
        ("libraries", _library_rows(diagnosis)),
        ("codecs", _codec_rows(diagnosis)),
        ("models", _model_rows(diagnosis)),
        ("speed of the models", _speed_rows(diagnosis)),
        ("backends that jobs will use", _choice_rows(diagnosis)),
    )
    parts = [f"{title}\n{_indent(format_table(lines))}" for title, rows in sections if (lines := list(rows))]
    verdict = "\n".join(f"problem: {problem}" for problem in diagnosis.problems) or "OK: Relume is ready to use."
    return "\n\n".join([*parts, verdict])


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _preset_fields(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "title": preset.title,
        "sentence": preset.sentence,
        "scale": preset.scale,
        "auto_limit": preset.auto_limit,
        "video_models": {str(scale): name for scale, name in preset.models.items()},
        "audio_model": preset.audio_model,
        "codec": preset.codec,
        "crf": preset.crf,
        "speed": preset.speed,
        "least_bits": preset.least_bits,
        "audio": preset.audio,
        "loudness": preset.loudness,
        "strength": preset.strength,
        "grain": preset.grain,
    }


def _preset_row(preset: Preset) -> tuple[str, ...]:
    limit = f", to x{preset.auto_limit}" if preset.scale == "auto" else ""
    scale = "-" if preset.copies_video else f"{preset.scale}{limit}"
    quality = f" crf {preset.crf}" if preset.crf is not None else ""
    video = f"{preset.codec}{quality}" if preset.codec else "copied"
    audio = "copied" if preset.audio == "off" else str(preset.audio)
    audio += "" if preset.loudness == "off" else f", {preset.loudness} loudness"
    return preset.name, preset.title, scale, video, audio, preset.sentence


def _machine_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    machine = diagnosis.hardware
    yield "Relume", diagnosis.relume
    yield "Python", diagnosis.python
    if machine.board:
        yield "board", machine.board
    yield "processor", f"{machine.cpu} ({machine.machine}), {machine.cores} cores available"
    yield "memory", format_bytes(machine.memory_bytes)
    yield "GPU", "; ".join(machine.gpus) or "none found"


def _backend_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for backend in diagnosis.backends:
        state = "used" if backend.used else "ready" if backend.available else "not available"
        yield backend.name, state, backend.reason


def _library_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for library in diagnosis.libraries:
        need = "optional, " if library.optional else ""
        what = f"{need}for {library.needed_for}"
        if library.version is None:
            what += f": {library.remedy}"
        yield library.name, library.version or "missing", what


def _codec_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for codec in diagnosis.codecs:
        read = "decodes" if codec.decoders else "cannot be decoded"
        write = f"encodes with {', '.join(codec.encoders)}" if codec.encoders else "cannot be encoded"
        yield codec.name, read, write


def _model_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for model in diagnosis.models:
        yield model.name, model.problem or "OK", f"{model.title} ({model.licence})"
        for figure in model.quality:
            yield "", "", figure


def _speed_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for speed in diagnosis.speeds:
        took = speed.problem or f"{speed.ms:.1f} ms for {speed.size}, median of {speed.runs}"
        yield speed.model, f"{speed.backend} {speed.precision}", took


def _choice_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for choice in diagnosis.choices:
        yield choice.model, f"{choice.backend} {choice.precision}", choice.reason


def summarise(report: Report, report_path: Path | None = None) -> str:
    """Return the summary of a job: key facts, streams and warnings."""
    rows = [
        ("result", f"{report.result.path} ({format_bytes(report.result.size_bytes)})"),
        *([("report", str(report_path))] if report_path else []),
        *([("before/after", report.compare)] if report.compare else []),
        ("verification", _describe_check(report)),
        *_video_rows(report),
        *_audio_rows(report),
        *_offset_rows(report),
        *_engine_rows(report),
        *_job_speed_rows(report),
    ]
    parts = [format_table(rows), format_table(_stream_rows(report))]
    if report.warnings:
        parts.append("\n".join(f"warning: {warning}" for warning in report.warnings))
    return "\n\n".join(parts)


def _describe_check(report: Report) -> str:
    if report.check_failures:
        return f"FAILED: {'; '.join(report.check_failures)}"
    return "passed: all frames and samples are present with correct timing"


def _video_rows(report: Report) -> Iterable[tuple[str, str]]:
    video = report.picture
    if video is None:
        return
    yield (
        "video",
        f"{_describe(video.source)} -> {_describe(video.result)}; {video.scale_reason}",
    )
    times = "timing unchanged" if video.pts_equal else "TIMING CHANGED"
    yield "frames", f"{video.frames_in} in, {video.frames_out} out, {times}"
    if video.deinterlaced:
        yield "interlaced", video.interlace_reason or "deinterlaced"
    if video.scene_cuts:
        yield "scene cuts", ", ".join(f"frame {number}" for number in video.scene_cuts[:12])
    if video.state_resets:
        cured = sum(reset.cured for reset in video.state_resets)
        yield "repaired", f"{cured} of {len(video.state_resets)} tiles with invalid values"
    if video.kept_tiles and video.tiling is not None:
        share = video.kept_tiles / max(1, video.tiling.tiles_per_frame * video.frames_in)
        yield "static", f"{share:.0%} of all tiles did not change and were not computed again"


def _audio_rows(report: Report) -> Iterable[tuple[str, str]]:
    for track in report.sound:
        text = f"{track.mode}: {track.samples_in} samples in, {track.samples_out} out"
        if track.guard_share is not None and track.guard_share >= 0.005:
            text += f"; noise reduction lowered for {track.guard_share:.0%} of the time"
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


def _job_speed_rows(report: Report) -> Iterable[tuple[str, str]]:
    speed = report.speed
    rate = f", {speed.fps:.1f} fps" if speed.fps is not None else ""
    memory = format_bytes(speed.peak_memory_bytes)
    if report.resumes:
        yield "resumed", f"after {report.resumes} interruption{'s' if report.resumes > 1 else ''}"
    yield "speed", f"{describe_duration(speed.wall_s)}{rate}, peak memory {memory}"
    if speed.stages:
        yield "time spent", ", ".join(f"{entry.stage} {entry.seconds:.1f} s" for entry in speed.stages)


def _stream_rows(report: Report) -> Iterable[tuple[str, ...]]:
    yield "stream", "kind", "source", "result", "action"
    for stream in report.streams:
        what = str(stream.action) + (f": {stream.reason}" if stream.reason else "")
        yield str(stream.index), stream.kind, stream.codec, stream.out_codec or "-", what
    for part in report.parts:
        action = str(part.action) + (f": {part.reason}" if part.reason else "")
        shown = str(part.count) if part.action is not Action.NOT_CARRIED else "-"
        yield "", part.what, str(part.count), shown, action


def _place(samples: int) -> str:
    if samples == 0:
        return "with the video"
    return f"{abs(samples)} samples {'after' if samples > 0 else 'before'} the video"


def _describe(facts: VideoFacts) -> str:
    return f"{facts.width}x{facts.height} {facts.bits}-bit"


def describe_duration(seconds: float) -> str:
    """Format a duration as m:ss or h:mm:ss, rounded to the second."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
