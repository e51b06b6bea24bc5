"""What `relume presets` and `relume doctor` show, as text or JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from appliance.text import format_bytes, format_json, format_table
from runtime.presets import PRESETS, Preset

if TYPE_CHECKING:
    from runtime.doctor import Diagnosis


def show_presets(*, as_json: bool) -> str:
    """Show every preset."""
    if as_json:
        return format_json([_preset_fields(preset) for preset in PRESETS.values()])
    header = ("preset", "title", "scale", "video", "audio", "description")
    return format_table([header, *(_preset_row(preset) for preset in PRESETS.values())])


def show_diagnosis(diagnosis: "Diagnosis", *, as_json: bool) -> str:
    """Show what `relume doctor` found."""
    if as_json:
        return format_json(asdict(diagnosis))
    sections = (
        ("machine", _machine_rows(diagnosis)),
        ("backends", _backend_rows(diagnosis)),
        ("libraries", _library_rows(diagnosis)),
        ("codecs", _codec_rows(diagnosis)),
        ("models", _model_rows(diagnosis)),
        ("speed of the models alone", _speed_rows(diagnosis)),
        ("what a job will use", _choice_rows(diagnosis)),
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
        "strength": preset.strength,
    }


def _preset_row(preset: Preset) -> tuple[str, ...]:
    limit = f", to x{preset.auto_limit}" if preset.scale == "auto" else ""
    scale = "-" if preset.copies_picture else f"{preset.scale}{limit}"
    quality = f" crf {preset.crf}" if preset.crf is not None else ""
    picture = f"{preset.codec}{quality}" if preset.codec else "copied"
    sound = "copied" if preset.audio == "off" else preset.audio
    return preset.name, preset.title, scale, picture, sound, preset.sentence


def _machine_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    box = diagnosis.hardware
    yield "Relume", diagnosis.relume
    yield "Python", diagnosis.python
    if box.board:
        yield "board", box.board
    yield "processor", f"{box.cpu} ({box.machine}), {box.cores} cores for Relume"
    yield "memory", format_bytes(box.memory_bytes)
    yield "GPU", "; ".join(box.gpus) or "none found"


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
        read = "read" if codec.decoders else "not read"
        write = f"written with {', '.join(codec.encoders)}" if codec.encoders else "not written"
        yield codec.name, read, write


def _model_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for model in diagnosis.models:
        yield model.name, model.problem or "intact", f"{model.title} ({model.licence})"
        for figure in model.quality:
            yield "", "", figure


def _speed_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for speed in diagnosis.speeds:
        took = speed.problem or f"{speed.ms:.1f} ms for {speed.size}, median of {speed.runs}"
        yield speed.model, f"{speed.backend} {speed.precision}", took


def _choice_rows(diagnosis: "Diagnosis") -> Iterable[tuple[str, ...]]:
    for choice in diagnosis.choices:
        yield choice.model, f"{choice.backend} {choice.precision}", choice.reason
