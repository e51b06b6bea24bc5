"""`relume-build calibrate`: a video model of a zoo to INT8, with what it costs, from clips to files that are kept."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from calibration.clips import make_sample, read_frames, record_calls
from calibration.quality import Spoiling, TestClip, make_test_clip, measure_psnr
from calibration.recording import Tensors
from calibration.sensitivity import (
    Choice,
    Files,
    LayerCost,
    Score,
    choose_layers,
    cost_table,
    measure_layers,
    write_parts,
    write_report,
)
from calibration.shipping import Int8Part, enter_int8
from export.int8 import GATE_DB
from export.ranges import CalibrationError, Method, Ranges, measure_ranges
from runtime.engine.backends import choose_backend, list_backends
from runtime.engine.session import OpenSession, Session
from runtime.manifest import Model, Quality, TensorSpec, find_model

SIDES = {4: 180, 2: 180, 1: 270}
"""Short side that a calibration clip is brought down to, by the model's scale: what poor material is like."""
SIZES = {"height": 180, "width": 320}


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What to calibrate, with which clips.

    clips: Files, or folders of them. Those that the model's training held out are measured on, all others calibrated
        with; where there are none of a kind, all serve for both, and without clips the generated sample does.
    test_clips: Names of those to measure on instead, for a model of which nobody knows what training saw.
    frames: Of each clip that is calibrated with.
    side: Short side that such a clip is brought down to; that of `SIDES` without it.
    test_frames: Of each clip that is measured on.
    """

    model: str
    clips: tuple[Path, ...] = ()
    test_clips: tuple[str, ...] = ()
    method: Method = Method.MINMAX
    frames: int = 4
    side: int | None = None
    test_frames: int = 12
    truth_side: int = 360
    spoiling: Spoiling = field(default_factory=Spoiling)
    gate_db: float = GATE_DB
    ship: bool = False
    output: Path = Path("exported")


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it, by the role of the file; a role of which nothing is quantised has its float32 file."""

    paths: Mapping[str, Path]
    ranges: Mapping[str, Ranges]
    costs: tuple[LayerCost, ...]
    choice: Choice


def calibrate(request: CalibrationRequest, *, console: Console | None = None, zoo: Path | None = None) -> Calibrated:
    """Measure ranges, measure what each layer costs, choose, and write the INT8 files if the gate holds.

    Raises:
        ManifestError: There is no such model.
        CalibrationError: The model is not one for pictures, or there is no clip.
        Int8Error: The gate cannot be reached; no file is left.
    """
    console = console or Console()
    model = find_model(request.model, zoo)
    if model.manifest.video is None:
        raise CalibrationError(
            f"{request.model} is no network for pictures; those for speech gain nothing by int8 (docs/int8.md)"
        )
    with tempfile.TemporaryDirectory() as folder:
        held_out = request.test_clips or model.manifest.training.held_out
        learnt, tested = split_clips(request.clips or (make_sample(Path(folder)),), held_out)
        console.print(f"{request.model}: ranges from {len(learnt)} clips ...")
        ranges = {
            role: measure_ranges(
                source,
                _samples(model, learnt, request, role),
                method=request.method,
                clips=tuple(path.name for path in learnt),
            )
            for role, source in float_files(model).items()
        }
        tests = [
            make_test_clip(model, path, frames=request.test_frames, side=request.truth_side, spoiling=request.spoiling)
            for path in tested
        ]
    return _quantise(request, model, ranges, tests, console)


def float_files(model: Model) -> dict[str, Path]:
    """Give a model's float32 files by their role."""
    return {file.role: model.file(role=file.role) for file in model.manifest.files if file.precision == "fp32"}


def split_clips(clips: Sequence[Path], held_out: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Give the clips to calibrate with and those to measure on, whose names are `held_out`.

    Raises:
        CalibrationError: There are none.
    """
    found = [path for given in clips for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
    files = [path for path in found if path.is_file()]
    if not files:
        raise CalibrationError(f"there are no clips in {', '.join(map(str, clips))}; give files or a folder of them")
    tested = [path for path in files if path.name in held_out]
    others = [path for path in files if path not in tested]
    return others or tested, tested or others


def score_with(model: Model, tests: Sequence[TestClip], *, backends: Sequence[str] = ()) -> Score:
    """Give a function that measures files in the place of the model's own, in the backend where they are worst.

    Each backend compiles Q/DQ its own way, and a file is only as good as where it is worst; without names those of the
    CPU that are here.
    """
    here = [backend.name for backend in list_backends() if backend.available]
    usable = backends or [name for name in ("cpu", "openvino") if name in here]

    def score(files: Files) -> float:
        try:
            return min(measure_psnr(model, tests, _instead(model, files, name)) for name in usable)
        except ArithmeticError:
            return float("-inf")

    return score


def _samples(model: Model, clips: Sequence[Path], request: CalibrationRequest, role: str) -> Iterator[Tensors]:
    assert model.manifest.video is not None
    side = request.side or SIDES[model.manifest.video.scale]
    for clip in clips:
        yield from record_calls(model, read_frames(clip, frames=request.frames, side=side), role=role)


def _quantise(
    request: CalibrationRequest,
    model: Model,
    ranges: Mapping[str, Ranges],
    tests: Sequence[TestClip],
    console: Console,
) -> Calibrated:
    sources = float_files(model)
    costs = measure_layers(
        sources,
        ranges,
        score_with(model, tests, backends=("cpu",)),
        sizes=SIZES if any(_is_open(tensor) for tensor in model.manifest.inputs) else None,
        on_layer=lambda name: console.print(f"{request.model}: {name} alone ..."),
    )
    choice = choose_layers(sources, ranges, score_with(model, tests), costs, gate_db=request.gate_db)
    console.print(cost_table(request.model, costs, choice))
    request.output.mkdir(parents=True, exist_ok=True)
    write_report(request.output / f"{request.model}.int8.json", costs, choice)
    if not request.ship:
        folder = request.output / request.model
        folder.mkdir(exist_ok=True)
        written = write_parts(sources, folder, ranges, choice.quantised)
        for role, measured in ranges.items():
            measured.save(folder / f"{role}.calibration.json")
        return Calibrated(written, ranges, costs, choice)
    loss = Quality(
        measure="PSNR-Y dB, fp32 and int8",
        data=_describe(request, tests, model.manifest.training.held_out),
        before=round(choice.before_db, 4),
        after=round(choice.after_db, 4),
        command=_command(request),
    )
    with tempfile.TemporaryDirectory(dir=model.folder, prefix=".int8-") as folder_name:
        parts = {
            role: Int8Part(written, ranges[role], choice.in_float.get(role, ()))
            for role, written in write_parts(sources, Path(folder_name), ranges, choice.quantised).items()
        }
        entered = enter_int8(model, parts, loss=(loss,))
    return Calibrated({file.role: model.folder / file.path for file in entered}, ranges, costs, choice)


def _is_open(tensor: TensorSpec) -> bool:
    return any(isinstance(size, str) for size in tensor.shape)


def _instead(model: Model, files: Files, backend: str) -> OpenSession:
    opener = choose_backend(backend, threads=2).open_session
    paths = {source: files.get(role, source) for role, source in float_files(model).items()}

    def open_session(path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        return opener(paths[path], dimensions=dimensions, precision=precision)

    return open_session


def _describe(request: CalibrationRequest, tests: Sequence[TestClip], held_out: Sequence[str]) -> str:
    spoiling = request.spoiling
    how = "bicubic" if spoiling.kind == "bicubic" else f"noise sigma {spoiling.noise_sigma:g}, H.264 CRF {spoiling.crf}"
    unseen = " that training never saw" if {clip.name for clip in tests} <= set(held_out) else ""
    return (
        f"{len(tests)} clips{unseen}, {request.test_frames} frames each, "
        f"short side at most {request.truth_side}, {how}"
    )


def _command(request: CalibrationRequest) -> str:
    spoiling = request.spoiling
    return (
        f"relume-build calibrate {request.model} --clips FOLDER --method {request.method} --frames {request.frames} "
        + (f"--side {request.side} " if request.side is not None else "")
        + f"--test-frames {request.test_frames} --truth-side {request.truth_side} --kind {spoiling.kind} "
        f"--noise-sigma {spoiling.noise_sigma:g} --crf {spoiling.crf} --ship"
    )
