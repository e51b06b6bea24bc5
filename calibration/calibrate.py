"""`relume-build calibrate`: quantise a model to INT8, from clips to measured files in the zoo."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from calibration.material import CalibrationRequest, Material, float_files, read_material, score_with
from calibration.sensitivity import (
    Choice,
    LayerCost,
    choose_layers,
    cost_table,
    measure_layers,
    write_parts,
    write_report,
)
from export.int8.ranges import Ranges, file_digest, measure_ranges
from export.zoo import enter_files
from runtime.manifest import Calibration, Model, ModelFile, Quality, QuantScheme, find_model


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The results by the role of the file; a role without quantised layers has its float32 file.

    paths: The files for CPUs; those for TensorRT lie beside them if they pass the gate.
    """

    paths: Mapping[str, Path]
    ranges: Mapping[str, Ranges]
    costs: tuple[LayerCost, ...]
    choice: Choice


def calibrate(request: CalibrationRequest, *, console: Console | None = None, zoo: Path | None = None) -> Calibrated:
    """Measure ranges and the cost of each layer, choose the layers, and write the INT8 files if the gate is passed.

    Raises:
        ManifestError: There is no such model.
        CalibrationError: There are no clips.
        Int8Error: The gate cannot be passed; no file is left.
    """
    console = console or Console()
    model = find_model(request.model, zoo)
    sources = float_files(model)
    with tempfile.TemporaryDirectory() as folder:
        material = read_material(model, request, Path(folder))
        console.print(f"{request.model}: ranges from {len(material.calibrated)} clips ...")
        ranges = {
            role: measure_ranges(source, material.samples(role), method=request.method, clips=material.calibrated)
            for role, source in sources.items()
        }
    # ONNX Runtime also runs the scheme for TensorRT correctly; OpenVINO does not (docs/int8.md).
    score_in_ort = score_with(material.measure, backends=("cpu",))
    costs = measure_layers(
        sources,
        ranges,
        score_in_ort,
        sizes=material.sizes,
        on_layer=lambda name: console.print(f"{request.model}: {name} ..."),
    )
    score = score_with(material.measure)
    choice = choose_layers(sources, ranges, score, costs, gate_db=request.gate_db)
    console.print(cost_table(request.model, costs, choice))
    request.output.mkdir(parents=True, exist_ok=True)
    write_report(request.output / f"{request.model}.int8.json", costs, choice)
    after_db = {QuantScheme.ASYMMETRIC_U8: choice.after_db}
    with tempfile.TemporaryDirectory() as folder:
        signed = write_parts(sources, Path(folder), ranges, choice.quantised, scheme=QuantScheme.SYMMETRIC_S8)
        lost_db = score_in_ort(sources) - score_in_ort(signed)
    if lost_db <= request.gate_db:
        after_db[QuantScheme.SYMMETRIC_S8] = choice.before_db - lost_db
    console.print(f"{request.model}: {lost_db:.3f} dB lost in the scheme for TensorRT")
    losses = {scheme: _loss(request, material, choice.before_db, reached, zoo) for scheme, reached in after_db.items()}
    if request.ship:
        paths = _ship(model, ranges, choice, losses)
    else:
        paths = _write_files(model, ranges, choice, schemes=tuple(losses), folder=request.output / request.model)
    return Calibrated(paths, ranges, costs, choice)


def _loss(
    request: CalibrationRequest, material: Material, before_db: float, after_db: float, zoo: Path | None
) -> Quality:
    return Quality(
        measure=material.title,
        data=material.data,
        before=round(before_db, 4),
        after=round(after_db, 4),
        command=_command(request, own=zoo is not None),
    )


def _write_files(
    model: Model, ranges: Mapping[str, Ranges], choice: Choice, *, schemes: Sequence[QuantScheme], folder: Path
) -> dict[str, Path]:
    """Write the files and their ranges into a folder."""
    for scheme in schemes:
        (folder / scheme).mkdir(parents=True, exist_ok=True)
    for role, measured in ranges.items():
        measured.save(folder / f"{role}.calibration.json")
    sources = float_files(model)
    written = {
        scheme: write_parts(sources, folder / scheme, ranges, choice.quantised, scheme=scheme) for scheme in schemes
    }
    return written[QuantScheme.ASYMMETRIC_U8]


def _ship(
    model: Model, ranges: Mapping[str, Ranges], choice: Choice, losses: Mapping[QuantScheme, Quality]
) -> dict[str, Path]:
    """Move the files into the model's folder and enter them in its manifest."""
    sources = float_files(model)
    parts = {role: Int8Part(measured, choice.in_float.get(role, ())) for role, measured in ranges.items()}
    with tempfile.TemporaryDirectory(dir=model.folder, prefix=".int8-") as name:
        written = {}
        for scheme in losses:
            folder = Path(name) / scheme
            folder.mkdir()
            written[scheme] = write_parts(sources, folder, ranges, choice.quantised, scheme=scheme)
        entered = enter_int8(model, parts, written, {scheme: (loss,) for scheme, loss in losses.items()})
    return {file.role: model.folder / file.path for file in entered if file.form == QuantScheme.ASYMMETRIC_U8}


def _command(request: CalibrationRequest, *, own: bool) -> str:
    degradation = request.degradation
    named = ["--zoo OWN_ZOO"] if own else []
    named += [f"--test-clip {name}" for name in request.test_clips]
    if request.side is not None:
        named.append(f"--side {request.side}")
    return " ".join(
        (
            f"relume-build calibrate {request.model} --clips FOLDER",
            *named,
            f"--method {request.method} --frames {request.frames} --test-frames {request.test_frames}",
            f"--truth-side {request.truth_side} --kind {degradation.kind} --noise-sigma {degradation.noise_sigma:g}",
            f"--crf {degradation.crf} --blur-sigma {degradation.blur_sigma:g} --ship",
        )
    )


@dataclass(frozen=True, slots=True)
class Int8Part:
    """The ranges of one role's INT8 files; `in_float`: layers that stay in float32."""

    ranges: Ranges
    in_float: tuple[str, ...]


def enter_int8(
    model: Model,
    parts: Mapping[str, Int8Part],
    written: Mapping[QuantScheme, Mapping[str, Path]],
    losses: Mapping[QuantScheme, Sequence[Quality]],
) -> tuple[ModelFile, ...]:
    """Move INT8 files into a model's folder and enter them in the manifest, replacing earlier ones.

    Args:
        model: The model; its folder is changed.
        parts: By the role of the file; every role of the model.
        written: The files of each scheme by role, on the same file system; the model's own float32 file if nothing is
        quantised.
        losses: Measured figures of the model in each scheme, float32 before and INT8 after.
    """
    for role, part in parts.items():
        part.ranges.save(model.folder / _ranges_name(role))
    entered = tuple(
        _move(model, role, scheme, parts[role], path, losses[scheme])
        for scheme, files in written.items()
        for role, path in files.items()
    )
    enter_files(model, entered)
    return entered


def _ranges_name(role: str) -> str:
    return f"{role}.calibration.json"


def _move(
    model: Model, role: str, scheme: QuantScheme, part: Int8Part, written: Path, loss: Sequence[Quality]
) -> ModelFile:
    target = written
    if written != model.file(role=role):
        target = model.folder / (
            f"{role}.int8.onnx" if scheme is QuantScheme.ASYMMETRIC_U8 else f"{role}.int8-{scheme}.onnx"
        )
        written.replace(target)
    return ModelFile.model_validate(
        {
            "path": target.name,
            "role": role,
            "precision": "int8",
            "form": scheme.value,
            "sha256": file_digest(target),
            "calibration": Calibration(
                path=_ranges_name(role),
                digest=part.ranges.digest,
                method=part.ranges.method.value,
                samples=part.ranges.samples,
                clips=part.ranges.clips,
                in_float=part.in_float,
                loss=tuple(loss),
            ),
        }
    )
