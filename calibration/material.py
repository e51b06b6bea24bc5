"""What a model is calibrated with and what its quality is measured on: pictures against their truth, or speech.

Either goes through the shipped pipeline, and so do the quantised files that take the place of the model's own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from calibration.clips import make_sample, read_frames, record_calls
from calibration.quality import Spoiling, make_test_clip, measure_psnr
from calibration.recording import Tensors
from calibration.sensitivity import Files, Score
from calibration.sound import measure_si_sdr, record_blocks
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
"""Short side that a calibration clip is brought down to, by the model's scale: what poor material is like."""
SIZES = {"height": 180, "width": 320}
RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "speech_demucs.toml"
"""Tells the speakers and noises that were held out; it is the same for all speech models."""
SPEECH_SECONDS = 4.0
SNRS_DB = (0.0, 5.0, 10.0, 15.0)
MOST_NOISES = 12
"""That a speech model is calibrated with."""

Measure = Callable[[Backend], float]
"""Gives the quality in dB of a model whose engines are opened so."""


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What to calibrate, with which clips.

    clips: Files, or folders of them; for speech one folder with `speech/` and `noise/`. Those that the model's training
        held out are measured on, all others calibrated with; where there are none of a kind, all serve for both, and
        without clips the generated sample does.
    test_clips: Names of those to measure on instead, for a model of which nobody knows what training saw.
    frames: Of each clip that is calibrated with; for speech blocks of each mixture.
    side: Short side that such a clip is brought down to; that of `SIDES` without it.
    test_frames: Of each clip that is measured on; for speech mixtures of each noise.
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
class Material:
    """What a calibration needs of its clips.

    learnt: Names of what ranges are measured with.
    samples: Gives, for the role of a file, what its engine got of them.
    title, data: What is measured, and on what.
    sizes: Of the named dimensions, to count operations with.
    """

    learnt: tuple[str, ...]
    samples: Callable[[str], Iterator[Tensors]]
    measure: Measure
    title: str
    data: str
    sizes: Mapping[str, int]


def read_material(model: Model, request: CalibrationRequest, folder: Path) -> Material:
    """Read clips and make what the quality is measured on.

    Args:
        model: The model.
        request: Tells the clips.
        folder: For files that are made; they are read as long as `samples` is called.

    Raises:
        CalibrationError: There is nothing to calibrate with.
    """
    read = _read_pictures if model.manifest.video is not None else _read_speech
    return read(model, request, folder)


def _read_pictures(model: Model, request: CalibrationRequest, folder: Path) -> Material:
    spec = model.manifest.video
    assert spec is not None
    held_out = request.test_clips or model.manifest.training.held_out
    learnt, tested = split_clips(request.clips or (make_sample(folder),), held_out)
    lacking = sorted(set(request.test_clips) - {path.name for path in tested})
    if lacking:
        raise CalibrationError(f"there is no clip named {', '.join(lacking)} among those of --clips to measure on")
    side, spoiling = request.side or SIDES[spec.scale], request.spoiling
    tests = [
        make_test_clip(model, path, frames=request.test_frames, side=request.truth_side, spoiling=spoiling)
        for path in tested
    ]

    def samples(role: str) -> Iterator[Tensors]:
        for clip in learnt:
            yield from record_calls(model, read_frames(clip, frames=request.frames, side=side), role=role)

    is_unseen = {path.name for path in tested} <= set(model.manifest.training.held_out)
    of_what = f"{len(tests)} clips{' that training never saw' if is_unseen else ''}"
    return Material(
        learnt=tuple(path.name for path in learnt),
        samples=samples,
        measure=lambda backend: measure_psnr(model, tests, backend),
        title="PSNR-Y dB, fp32 and int8",
        data=f"{of_what}, {request.test_frames} frames each, short side at most {request.truth_side}, {spoiling}",
        sizes=SIZES if any(_is_open(tensor) for tensor in model.manifest.inputs) else {},
    )


def _read_speech(model: Model, request: CalibrationRequest, folder: Path) -> Material:
    spec = model.manifest.audio
    assert spec is not None
    if len(request.clips) != 1:
        raise CalibrationError(
            f"{model.manifest.name} is calibrated with one folder that holds speech/ and noise/; give it as --clips"
        )
    settings = SpeechSettings.model_validate(load_recipe(RECIPE).task)
    try:
        kept, held_out = load_corpora(
            request.clips[0],
            held_out_noise=settings.held_out_noise,
            held_out_speakers=settings.held_out_speakers,
        )
    except FileNotFoundError as error:
        raise CalibrationError(f"{error}; {model.manifest.name} is calibrated with speech and noise") from error
    step = -(-len(kept.noise) // MOST_NOISES)
    learnt = _mix(SpeechCorpus(kept.speech, kept.noise[::step]), per_noise=1)
    tests = _mix(held_out, per_noise=request.test_frames)

    def samples(role: str) -> Iterator[Tensors]:
        del role
        for index, mixture in enumerate(learnt):
            path = folder / f"{index}.wav"
            soundfile.write(path, mixture.noisy, SAMPLE_RATE)
            yield from record_blocks(model, path, blocks=request.frames)

    return Material(
        learnt=tuple(f"{mixture.speaker} with {mixture.noise}" for mixture in learnt),
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
    """Return the clips to calibrate with and those to measure on, whose names are `held_out`.

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


def score_with(measure: Measure, *, backends: Sequence[str] = ()) -> Score:
    """Return a function that measures files in the place of the model's own, in the backend where they are worst.

    Each backend compiles Q/DQ its own way, and a file is only as good as where it is worst; without names those of the
    CPU that are here.
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
    """A `Backend` that opens given files in place of the model's own of the same role."""

    def __init__(self, info: BackendInfo, files: Files) -> None:
        self._info, self._files = info, files

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session; see `runtime.engine.session.Backend`."""
        path = self._files.get(role) or model.file(role=role)
        return self._info.open_file(path, shape, precision="fp32", threads=2)


def _is_open(tensor: TensorSpec) -> bool:
    return any(isinstance(size, str) for size in tensor.shape)
