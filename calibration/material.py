"""Calibration and test data: clips with ground truth for video models, mixtures for speech models.

Both run through the shipped pipeline, with the model's own files or with quantised ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from calibration.quality import TestDegradation, make_test_clip, measure_psnr
from calibration.recording import Tensors, make_sample, measure_si_sdr, read_frames, record_blocks, record_calls
from calibration.sensitivity import Files, Score
from export.int8.convert import GATE_DB
from export.int8.ranges import CalibrationError, Method
from runtime.engine.backends import BackendInfo, find_backend, list_backends
from runtime.engine.session import Backend, Session
from runtime.manifest import Model, Role, TensorSpec
from training.loop import load_recipe
from training.speech import SpeechSettings
from training.speech_data import SAMPLE_RATE, SpeechCorpus, load_corpora
from training.speech_measures import Mixture, held_out_mixtures

SIDES = {4: 180, 2: 180, 1: 270}
"""Short side that calibration clips are downscaled to, by the model's scale: typical of real sources."""
SIZES = {"height": 180, "width": 320}
RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "speech_demucs.toml"
"""Names the held-out speakers and noises, which are the same for all speech models."""
SPEECH_SECONDS = 4.0
SNRS_DB = (0.0, 5.0, 10.0, 15.0)
MOST_NOISES = 12
"""Maximum number of noises that a speech model is calibrated with."""

Measure = Callable[[Backend], float]
"""Measure the quality in dB of a model that runs in a backend."""


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What to calibrate, with which clips.

    clips: Files or folders; for speech one folder with `speech/` and `noise/`. Clips held out by the model's training
        are used for measuring, all others for calibration; if there are none of a kind, all are used for both. Without
        clips a generated sample is used.
    test_clips: Names of the clips to measure on instead, for models whose training data is unknown.
    frames: Calibration frames per clip; for speech blocks per mixture.
    side: Short side that calibration clips are downscaled to; None for that of `SIDES`.
    test_frames: Measured frames per clip; for speech mixtures per noise.
    """

    model: str
    clips: tuple[Path, ...] = ()
    test_clips: tuple[str, ...] = ()
    method: Method = Method.MINMAX
    frames: int = 4
    side: int | None = None
    test_frames: int = 12
    truth_side: int = 360
    degradation: TestDegradation = field(default_factory=TestDegradation)
    gate_db: float = GATE_DB
    ship: bool = False
    output: Path = Path("exported")


@dataclass(frozen=True, slots=True)
class Material:
    """The data of a calibration.

    calibrated: Names of the calibration clips.
    samples: Yields the inputs of the engine with a role.
    title, data: The measure and the test data, for the manifest.
    sizes: Sizes of the named dimensions, for counting operations.
    """

    calibrated: tuple[str, ...]
    samples: Callable[[str], Iterator[Tensors]]
    measure: Measure
    title: str
    data: str
    sizes: Mapping[str, int]


def read_material(model: Model, request: CalibrationRequest, folder: Path) -> Material:
    """Read the calibration clips and prepare the test data.

    Args:
        model: The model.
        request: The clips.
        folder: For generated files; it must exist while `samples` is used.

    Raises:
        CalibrationError: There are no clips.
    """
    read = _read_video if model.manifest.video is not None else _read_speech
    return read(model, request, folder)


def _read_video(model: Model, request: CalibrationRequest, folder: Path) -> Material:
    spec = model.manifest.video
    assert spec is not None
    held_out = request.test_clips or model.manifest.training.held_out
    calibrated, tested = split_clips(request.clips or (make_sample(folder),), held_out)
    lacking = sorted(set(request.test_clips) - {path.name for path in tested})
    if lacking:
        raise CalibrationError(f"no clip of --clips is named {', '.join(lacking)}; check --test-clip")
    side, degradation = request.side or SIDES[spec.scale], request.degradation
    tests = [
        make_test_clip(model, path, frames=request.test_frames, side=request.truth_side, degradation=degradation)
        for path in tested
    ]

    def samples(role: str) -> Iterator[Tensors]:
        for clip in calibrated:
            yield from record_calls(model, read_frames(clip, frames=request.frames, side=side), role=role)

    is_unseen = {path.name for path in tested} <= set(model.manifest.training.held_out)
    of_what = f"{len(tests)} clips{' that training never saw' if is_unseen else ''}"
    return Material(
        calibrated=tuple(path.name for path in calibrated),
        samples=samples,
        measure=lambda backend: measure_psnr(model, tests, backend),
        title="PSNR-Y dB, fp32 and int8",
        data=f"{of_what}, {request.test_frames} frames each, short side at most {request.truth_side}, {degradation}",
        sizes=SIZES if any(_is_open(tensor) for tensor in model.manifest.inputs) else {},
    )


def _read_speech(model: Model, request: CalibrationRequest, folder: Path) -> Material:
    spec = model.manifest.audio
    assert spec is not None
    if len(request.clips) != 1:
        raise CalibrationError(f"{model.manifest.name} needs one folder with speech/ and noise/; set it with --clips")
    settings = SpeechSettings.model_validate(load_recipe(RECIPE).task)
    try:
        kept, held_out = load_corpora(
            request.clips[0],
            held_out_noise=settings.held_out_noise,
            held_out_speakers=settings.held_out_speakers,
        )
    except FileNotFoundError as error:
        raise CalibrationError(f"{error}; {model.manifest.name} needs speech and noise") from error
    step = -(-len(kept.noise) // MOST_NOISES)
    calibrated = _mix(SpeechCorpus(kept.speech, kept.noise[::step]), per_noise=1)
    tests = _mix(held_out, per_noise=request.test_frames)

    def samples(role: str) -> Iterator[Tensors]:
        del role
        for index, mixture in enumerate(calibrated):
            path = folder / f"{index}.wav"
            soundfile.write(path, mixture.noisy, SAMPLE_RATE)
            yield from record_blocks(model, path, blocks=request.frames)

    return Material(
        calibrated=tuple(f"{mixture.speaker} with {mixture.noise}" for mixture in calibrated),
        samples=samples,
        measure=lambda backend: measure_si_sdr(model, tests, backend),
        title="SI-SDR dB, fp32 and int8",
        data=f"{len(tests)} mixtures of {SPEECH_SECONDS:g} s, 0 to 15 dB, of speakers and noises that training never "
        "heard",
        sizes={"samples": spec.block_samples},
    )


def _mix(corpus: SpeechCorpus, *, per_noise: int) -> list[Mixture]:
    return held_out_mixtures(corpus, seconds=SPEECH_SECONDS, snrs_db=SNRS_DB, per_noise=per_noise)


def split_clips(clips: Sequence[Path], held_out: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Split clips into those for calibration and those for measuring, whose names are in `held_out`.

    Raises:
        CalibrationError: There are none.
    """
    found = [path for given in clips for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
    files = [path for path in found if path.is_file()]
    if not files:
        raise CalibrationError(f"there are no clips in {', '.join(map(str, clips))}; choose files or a folder of them")
    tested = [path for path in files if path.name in held_out]
    others = [path for path in files if path not in tested]
    return others or tested, tested or others


def score_with(measure: Measure, *, backends: Sequence[str] = ()) -> Score:
    """Return a function that measures files instead of the model's own, and returns the worst backend's result.

    Backends compile Q/DQ differently. Without names the available CPU backends are used.
    """
    here = [backend.name for backend in list_backends() if backend.available]
    usable = backends or [name for name in ("cpu", "openvino") if name in here]

    def score(files: Files) -> float:
        try:
            return min(measure(_SubstituteFiles(find_backend(name), files)) for name in usable)
        except ArithmeticError:
            return float("-inf")

    return score


def float_files(model: Model) -> dict[str, Path]:
    """Return a model's float32 files by their role."""
    return {file.role: model.file(role=file.role) for file in model.manifest.files if file.precision == "fp32"}


class _SubstituteFiles:
    """A `Backend` that opens given files instead of the model's own of the same role."""

    def __init__(self, info: BackendInfo, files: Files) -> None:
        self._info, self._files = info, files

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session; see `runtime.engine.session.Backend`."""
        path = self._files.get(role) or model.file(role=role)
        return self._info.open_file(path, shape, precision="fp32", threads=2)


def _is_open(tensor: TensorSpec) -> bool:
    return any(isinstance(size, str) for size in tensor.shape)
