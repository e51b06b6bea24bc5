"""`relume-build calibrate`: a shipped video model to INT8, with what it costs, from clips to a file that is kept."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from calibration.clips import make_sample, read_frames, record_steps
from calibration.quality import Spoiling, TestClip, make_test_clip, measure_psnr
from calibration.recording import Tensors
from calibration.sensitivity import Choice, LayerCost, choose_layers, cost_table, measure_layers, write_report
from calibration.shipping import FILE, enter_int8
from export.int8 import GATE_DB, write_int8
from export.ranges import CalibrationError, Method, Ranges, measure_ranges
from runtime.engine.backends import choose_backend, list_backends
from runtime.engine.session import OpenSession, Session
from runtime.manifest import Model, Quality, find_model

SIDES = {4: 180, 2: 180, 1: 270}
"""Short side that a calibration clip is brought down to, by the model's scale: what poor material is like."""
SIZES = {"height": 180, "width": 320}


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What to calibrate, with which clips.

    clips: Files, or folders of them. Those that the model's training held out are measured on, all others calibrated
        with; where there are none of a kind, all serve for both, and without clips the generated sample does.
    frames: Of each clip that is calibrated with.
    test_frames: Of each clip that is measured on.
    """

    model: str
    clips: tuple[Path, ...] = ()
    method: Method = Method.MINMAX
    frames: int = 4
    test_frames: int = 12
    truth_side: int = 360
    spoiling: Spoiling = field(default_factory=Spoiling)
    gate_db: float = GATE_DB
    ship: bool = False
    output: Path = Path("exported")


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it."""

    path: Path
    ranges: Ranges
    costs: tuple[LayerCost, ...]
    choice: Choice


def calibrate(request: CalibrationRequest, *, console: Console | None = None, zoo: Path | None = None) -> Calibrated:
    """Measure ranges, measure what each layer costs, choose, and write the INT8 file if the gate holds.

    Raises:
        ManifestError: There is no such model.
        CalibrationError: The model is not one that takes a frame at a time, or there is no clip.
        Int8Error: The gate cannot be reached; no file is left.
    """
    console = console or Console()
    model = find_model(request.model, zoo)
    if model.manifest.video is None or {file.role for file in model.manifest.files} != {"step"}:
        raise CalibrationError(
            f"{request.model} is no network that takes a picture at a time; other networks become int8 by relume-build "
            "export, and those for speech gain nothing by it (docs/int8.md)"
        )
    with tempfile.TemporaryDirectory() as folder:
        learnt, tested = split_clips(model, request.clips or (make_sample(Path(folder)),))
        console.print(f"{request.model}: ranges from {len(learnt)} clips ...")
        ranges = measure_ranges(
            model.file(),
            _samples(model, learnt, request),
            method=request.method,
            clips=tuple(path.name for path in learnt),
        )
        tests = [
            make_test_clip(model, path, frames=request.test_frames, side=request.truth_side, spoiling=request.spoiling)
            for path in tested
        ]
    return _quantise(request, model, ranges, tests, console)


def split_clips(model: Model, clips: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Give the clips to calibrate with and those to measure on.

    Raises:
        CalibrationError: There are none.
    """
    found = [path for given in clips for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
    files = [path for path in found if path.is_file()]
    if not files:
        raise CalibrationError(f"there are no clips in {', '.join(map(str, clips))}; give files or a folder of them")
    held_out = [path for path in files if path.name in model.manifest.training.held_out]
    others = [path for path in files if path not in held_out]
    return others or held_out, held_out or others


def score_with(model: Model, tests: Sequence[TestClip], *, backends: Sequence[str] = ()) -> Callable[[Path], float]:
    """Give a function that measures a file in the place of the model's own, in the backend where it is worst.

    Each backend compiles Q/DQ its own way, and a file is only as good as where it is worst; without names those of the
    CPU that are here.
    """
    here = [backend.name for backend in list_backends() if backend.available]
    usable = backends or [name for name in ("cpu", "openvino") if name in here]

    def score(path: Path) -> float:
        try:
            return min(measure_psnr(model, tests, _instead(path, name)) for name in usable)
        except ArithmeticError:
            return float("-inf")

    return score


def _samples(model: Model, clips: Sequence[Path], request: CalibrationRequest) -> Iterator[Tensors]:
    assert model.manifest.video is not None
    side = SIDES[model.manifest.video.scale]
    for clip in clips:
        yield from record_steps(model, read_frames(clip, frames=request.frames, side=side))


def _quantise(
    request: CalibrationRequest, model: Model, ranges: Ranges, tests: Sequence[TestClip], console: Console
) -> Calibrated:
    source = model.file()
    costs = measure_layers(
        source,
        ranges,
        score_with(model, tests, backends=("cpu",)),
        sizes=SIZES,
        on_layer=lambda name: console.print(f"{request.model}: {name} alone ..."),
    )
    choice = choose_layers(source, ranges, score_with(model, tests), costs, gate_db=request.gate_db)
    console.print(cost_table(request.model, costs, choice))
    request.output.mkdir(parents=True, exist_ok=True)
    write_report(request.output / f"{request.model}.int8.json", costs, choice)
    folder = model.folder if request.ship else request.output
    written = folder / (f".{FILE}.part" if request.ship else f"{request.model}.int8.onnx")
    write_int8(source, written, ranges, layers=choice.quantised)
    if request.ship:
        loss = Quality(
            measure="PSNR-Y dB, fp32 and int8",
            data=_describe(request, tests),
            before=round(choice.before_db, 4),
            after=round(choice.after_db, 4),
            command=_command(request),
        )
        enter_int8(model, written, ranges, in_float=choice.in_float, loss=(loss,))
        written = folder / FILE
    else:
        ranges.save(request.output / f"{request.model}.calibration.json")
    return Calibrated(written, ranges, costs, choice)


def _instead(path: Path, backend: str) -> OpenSession:
    opener = choose_backend(backend, threads=2).open_session

    def open_session(_: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        return opener(path, dimensions=dimensions, precision=precision)

    return open_session


def _describe(request: CalibrationRequest, tests: Sequence[TestClip]) -> str:
    spoiling = request.spoiling
    how = "bicubic" if spoiling.kind == "bicubic" else f"noise sigma {spoiling.noise_sigma:g}, H.264 CRF {spoiling.crf}"
    return (
        f"{len(tests)} clips that training never saw, {request.test_frames} frames each, "
        f"short side at most {request.truth_side}, {how}"
    )


def _command(request: CalibrationRequest) -> str:
    spoiling = request.spoiling
    return (
        f"relume-build calibrate {request.model} --clips FOLDER --method {request.method} --frames {request.frames} "
        f"--test-frames {request.test_frames} --truth-side {request.truth_side} --kind {spoiling.kind} "
        f"--noise-sigma {spoiling.noise_sigma:g} --crf {spoiling.crf} --ship"
    )
