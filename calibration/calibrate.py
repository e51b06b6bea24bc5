"""`relume-build calibrate`: a model of a zoo to INT8, with what it costs, from clips to files that are kept."""

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
from calibration.shipping import Int8Part, enter_int8
from export.int8.qdq import Form
from export.int8.ranges import Ranges, measure_ranges
from runtime.manifest import Model, Quality, find_model


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it, by the role of the file; a role of which nothing is quantised has its float32 file.

    paths: The files for processors; those for TensorRT lie beside them, if they lose no more than allowed.
    """

    paths: Mapping[str, Path]
    ranges: Mapping[str, Ranges]
    costs: tuple[LayerCost, ...]
    choice: Choice


def calibrate(request: CalibrationRequest, *, console: Console | None = None, zoo: Path | None = None) -> Calibrated:
    """Measure ranges, measure what each layer costs, choose, and write the INT8 files if the gate holds.

    Raises:
        ManifestError: There is no such model.
        CalibrationError: There is nothing to calibrate with.
        Int8Error: The gate cannot be reached; no file is left.
    """
    console = console or Console()
    model = find_model(request.model, zoo)
    sources = float_files(model)
    with tempfile.TemporaryDirectory() as folder:
        material = read_material(model, request, Path(folder))
        console.print(f"{request.model}: ranges from {len(material.learnt)} clips ...")
        ranges = {
            role: measure_ranges(source, material.samples(role), method=request.method, clips=material.learnt)
            for role, source in sources.items()
        }
    # In ONNX Runtime, which also runs the form for TensorRT as it is; OpenVINO does not (docs/int8.md).
    score_in_ort = score_with(material.measure, backends=("cpu",))
    costs = measure_layers(
        sources,
        ranges,
        score_in_ort,
        sizes=material.sizes,
        on_layer=lambda name: console.print(f"{request.model}: {name} alone ..."),
    )
    score = score_with(material.measure)
    choice = choose_layers(sources, ranges, score, costs, gate_db=request.gate_db)
    console.print(cost_table(request.model, costs, choice))
    request.output.mkdir(parents=True, exist_ok=True)
    write_report(request.output / f"{request.model}.int8.json", costs, choice)
    after_db = {Form.CPU: choice.after_db}
    with tempfile.TemporaryDirectory() as folder:
        signed = write_parts(sources, Path(folder), ranges, choice.quantised, form=Form.TENSORRT)
        lost_db = score_in_ort(sources) - score_in_ort(signed)
    if lost_db <= request.gate_db:
        after_db[Form.TENSORRT] = choice.before_db - lost_db
    console.print(f"{request.model}: {lost_db:.3f} dB lost in the form for TensorRT")
    losses = {form: _loss(request, material, choice.before_db, reached, zoo) for form, reached in after_db.items()}
    if request.ship:
        paths = _ship(model, ranges, choice, losses)
    else:
        paths = _set_down(model, ranges, choice, forms=tuple(losses), folder=request.output / request.model)
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


def _set_down(
    model: Model, ranges: Mapping[str, Ranges], choice: Choice, *, forms: Sequence[Form], folder: Path
) -> dict[str, Path]:
    """Write the files and their ranges into a folder."""
    for form in forms:
        (folder / form).mkdir(parents=True, exist_ok=True)
    for role, measured in ranges.items():
        measured.save(folder / f"{role}.calibration.json")
    sources = float_files(model)
    written = {form: write_parts(sources, folder / form, ranges, choice.quantised, form=form) for form in forms}
    return written[Form.CPU]


def _ship(
    model: Model, ranges: Mapping[str, Ranges], choice: Choice, losses: Mapping[Form, Quality]
) -> dict[str, Path]:
    """Put the files into the model's folder and its manifest."""
    sources = float_files(model)
    parts = {role: Int8Part(measured, choice.in_float.get(role, ())) for role, measured in ranges.items()}
    with tempfile.TemporaryDirectory(dir=model.folder, prefix=".int8-") as name:
        written = {}
        for form in losses:
            folder = Path(name) / form
            folder.mkdir()
            written[form] = write_parts(sources, folder, ranges, choice.quantised, form=form)
        entered = enter_int8(model, parts, written, {form: (loss,) for form, loss in losses.items()})
    return {file.role: model.folder / file.path for file in entered if file.form == Form.CPU}


def _command(request: CalibrationRequest, *, own: bool) -> str:
    spoiling = request.spoiling
    named = ["--zoo OWN_ZOO"] if own else []
    named += [f"--test-clip {name}" for name in request.test_clips]
    if request.side is not None:
        named.append(f"--side {request.side}")
    return " ".join(
        (
            f"relume-build calibrate {request.model} --clips FOLDER",
            *named,
            f"--method {request.method} --frames {request.frames} --test-frames {request.test_frames}",
            f"--truth-side {request.truth_side} --kind {spoiling.kind} --noise-sigma {spoiling.noise_sigma:g}",
            f"--crf {spoiling.crf} --blur-sigma {spoiling.blur_sigma:g} --ship",
        )
    )
