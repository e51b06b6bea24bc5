"""The golden test: a stored clip runs through an engine and through ONNX Runtime in FP32 before the engine may be used.

The clip is short but covers a whole job: motion, recurrent state, two tiles side by side.
"""

import time
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.atomic_files import write_durably
from runtime.audio.denoiser import RecurrentDenoiser
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.engine.device import EngineType
from runtime.engine.session import Backend, Session
from runtime.engine.store.inventory import describe_changes, find_ready
from runtime.engine.store.key import EngineRequest, find_file
from runtime.engine.store.layout import FAILURE, BuildFailure, FailureKind, GoldenTestResult, move_folder, request_of
from runtime.engine.store.store import EngineStore, find_defect
from runtime.errors import EngineStoreError, RelumeError
from runtime.file_lock import FileLock
from runtime.manifest import Model, Role, VideoSpec, zoo_folder
from runtime.video.motion import MotionEstimator
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import Canvas, plan_canvas

MIN_AGREEMENT_DB: Final = {"fp32": 50.0, "fp16": 50.0, "int8": 40.0}
"""PSNR against FP32. INT8 is judged by its quality, but far below this the image would be a different one."""
MAX_LOSS_DB: Final = 0.15
"""Accepted loss of PSNR against the ground truth, compared with FP32: that of INT8 on real clips."""


class GoldenTestError(EngineStoreError):
    """The engine runs, but fails the golden test."""


class NotRunnableError(EngineStoreError):
    """The engine cannot be opened here, so it was not tested."""


def validate_engine(request: EngineRequest, engine: Path, *, threads: int) -> GoldenTestResult:
    """Run the golden test.

    Args:
        request: The request that the engine was built from.
        engine: Its file.
        threads: CPU threads.

    Raises:
        NotRunnableError: The engine cannot be opened here.
        GoldenTestError: Its output is not finite, differs too much from FP32, or has a seam.
        ManifestError: The model has no FP32 file to compare with.
    """
    started = time.monotonic()
    model, entry = find_file(request.source)
    model.file(role=entry.role, precision="fp32")  # refuse a faulty reference before the engine is opened
    try:
        session = open_engine(engine, engine_type=request.engine_type, precision=request.precision, threads=threads)
    except RelumeError as error:
        raise NotRunnableError(f"{engine.name} cannot be opened here: {error}") from error

    with session:
        reference = ModelBackend(find_backend("cpu"), threads=threads)
        tested = _EngineUnderTest(session, entry.role, reference)
        measured = _compare(model, request, tested, reference)
    _judge(request, measured)
    return measured.model_copy(update={"time_s": time.monotonic() - started})


class _EngineUnderTest:
    """A `Backend` that opens one role as the engine and all others as the reference: parts are tested one at a time."""

    def __init__(self, engine: Session, role: Role, reference: Backend) -> None:
        self._engine, self._role, self._reference = engine, role, reference

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """See `Backend.open`."""
        return self._engine if role == self._role else self._reference.open(model, role, shape)


def open_engine(path: Path, *, engine_type: EngineType, precision: str, threads: int) -> Session:
    """Open a built engine.

    Raises:
        SessionError: It cannot be opened here.
    """
    if engine_type is EngineType.OPENVINO:
        from runtime.engine.openvino import OpenVinoSession

        return OpenVinoSession(path, dimensions={}, precision=precision, threads=threads)
    from runtime.engine.tensorrt import TensorRtSession

    return TensorRtSession(path, engine_type=engine_type, precision=precision)


def _compare(model: Model, request: EngineRequest, tested: Backend, reference: Backend) -> GoldenTestResult:
    if model.manifest.video is not None:
        return compare_video(model, dict(request.dimensions), tested, reference)
    if model.manifest.audio is not None:
        return compare_audio(model, tested, reference)
    raise EngineStoreError(
        f"model {model.manifest.name} processes neither video nor audio, so there is no golden test for it"
    )


def _judge(request: EngineRequest, measured: GoldenTestResult) -> None:
    least = MIN_AGREEMENT_DB[request.precision]
    if not measured.agreement_db >= least:
        raise GoldenTestError(
            f"its PSNR against ONNX Runtime in FP32 is {measured.agreement_db:.1f} dB, expected {least:g} dB in "
            f"{request.precision}"
        )
    if measured.quality_loss_db is not None and not measured.quality_loss_db <= MAX_LOSS_DB:
        raise GoldenTestError(
            f"its loss against FP32 is {measured.quality_loss_db:.2f} dB, expected at most {MAX_LOSS_DB} dB"
        )


Samples = NDArray[np.float32]

_BEST_DB: Final = 150.0


def compare_audio(model: Model, tested: Backend, reference: Backend) -> GoldenTestResult:
    """Run the golden audio through an engine and through the reference, block by block with their states.

    Raises:
        GoldenTestError: A block is not finite.
    """
    assert model.manifest.audio is not None
    audio = read_audio(model.manifest.audio.sample_rate)
    ours, broken = _run_audio(model, tested, audio)
    if broken:
        raise GoldenTestError(f"{broken} of its blocks have NaN or infinite values")
    theirs, _ = _run_audio(model, reference, audio)
    return GoldenTestResult(agreement_db=measure_agreement(ours, theirs), time_s=0.0)


def measure_agreement(ours: Samples, theirs: Samples) -> float:
    """Return the PSNR of an engine's output against the reference, in dB, at most 150."""
    error = float(np.mean((ours.astype(np.float64) - theirs) ** 2))
    peak = float(np.max(np.abs(theirs)))
    return _BEST_DB if error == 0 else min(_BEST_DB, 10 * float(np.log10(peak**2 / error)))


def read_audio(sample_rate: int) -> Samples:
    """Read the stored audio: (n,) float32 in [-1, 1].

    Raises:
        EngineStoreError: It is missing, or of another rate.
    """
    path = zoo_folder() / "golden" / "speech.wav"
    try:
        with wave.open(str(path), "rb") as file:
            rate, content = file.getframerate(), file.readframes(file.getnframes())
    except (OSError, wave.Error) as error:
        raise EngineStoreError(f"the golden audio {path} cannot be read: {error}; reinstall Relume") from error
    if rate != sample_rate:
        raise EngineStoreError(f"the golden audio is at {rate} Hz, the model at {sample_rate} Hz")
    samples: Samples = np.frombuffer(content, "<i2").astype(np.float32)
    return samples / np.float32(32768)


def _run_audio(model: Model, backend: Backend, audio: Samples) -> tuple[Samples, int]:
    denoiser = RecurrentDenoiser(model, backend)
    try:
        made = np.concatenate([denoiser.push(audio), denoiser.flush()])
        return made, denoiser.non_finite_blocks
    finally:
        denoiser.close()


Frame = NDArray[np.float32]

_LEAST_FRAMES: Final = 3
_BESIDE_TILES: Final = 32
_MOTION: Final = (2, 5)
"""Motion of the full-size image from frame to frame: downwards and to the right, in pixels."""
_NOISE: Final = 4 / 255
_BESIDE: Final = 4
"""Width of the seam: pixels of the source on either side of where two tiles meet."""
_MOST_RATIO: Final = 2.0
_LEAST_ERROR: Final = 1e-4
"""RMS error under which, at 80 dB, errors are rounding errors and their ratio has no meaning."""


@dataclass(frozen=True, slots=True)
class GoldenClip:
    """Frames and their ground truth: (3, height, width) and (3, scale height, scale width), RGB in [0, 1]."""

    frames: tuple[Frame, ...]
    truths: tuple[Frame, ...]


def compare_video(model: Model, dimensions: dict[str, int], tested: Backend, reference: Backend) -> GoldenTestResult:
    """Run the golden clip through an engine and through the reference, in two tiles, and the reference in one.

    Raises:
        GoldenTestError: A tile is not finite, or there is a seam.
    """
    spec = model.manifest.video
    assert spec is not None
    shape = tile_shape(spec, dimensions)
    # The two tiles overlap widely: two full ones would take gigabytes for the largest shapes.
    width = min(2 * (shape[1] - spec.halo), shape[1] + 2 * spec.halo + _BESIDE_TILES)
    rows, columns = shape[0] * spec.grid, width * spec.grid
    clip = make_clip(rows, columns, scale=spec.scale, count=max(_LEAST_FRAMES, spec.look_ahead + 1))
    in_two = plan_canvas(rows, columns, spec.model_copy(update={"tile_shapes": (shape,)}))
    theirs, broken = _run_video(model, reference, in_two, clip)
    if broken:
        raise GoldenTestError(
            f"{broken} of its tiles have NaN or far too large values in FP32 too: the model itself is at fault"
        )
    ours, broken = _run_video(model, tested, in_two, clip)
    if broken:
        raise GoldenTestError(f"{broken} of its tiles have NaN or far too large values")
    aim = theirs
    if "height" in dimensions and spec.halo and not spec.overlap and width % spec.tile_multiple == 0:
        # With a halo of the receptive field, tiling is exact; blended tiles are only compared with blended ones.
        whole = spec.model_copy(update={"tile_shapes": ((shape[0], width),)})
        aim, _ = _run_video(model, reference, plan_canvas(rows, columns, whole), clip)
    ratio = find_seam([mine - other for mine, other in zip(ours, aim, strict=True)], in_two)
    del aim
    if ratio > _MOST_RATIO:
        raise GoldenTestError(f"visible seam: the error where two tiles meet is {ratio:.1f} times the error elsewhere")
    loss = measure_psnr(theirs, clip.truths) - measure_psnr(ours, clip.truths)
    return GoldenTestResult(agreement_db=measure_psnr(ours, theirs), quality_loss_db=loss, seam_ratio=ratio, time_s=0.0)


def tile_shape(spec: VideoSpec, dimensions: dict[str, int]) -> tuple[int, int]:
    """Return the tile shape of an engine: its own sizes, or the manifest's only shape where the file has fixed sizes.

    Raises:
        EngineStoreError: The file has fixed sizes, and the manifest more than one shape.
    """
    if "height" in dimensions and "width" in dimensions:
        return dimensions["height"], dimensions["width"]
    if len(spec.tile_shapes) != 1:
        raise EngineStoreError(f"got sizes {dimensions}; expected one of the {len(spec.tile_shapes)} tile shapes")
    return spec.tile_shapes[0]


def make_clip(height: int, width: int, *, scale: int, count: int) -> GoldenClip:
    """Generate the golden clip: the stored image, mirrored until it is large enough, moves from frame to frame.

    Args:
        height: Height of a frame.
        width: Width of a frame.
        scale: Scale of the ground truth.
        count: Number of frames.
    """
    tall, wide = height * scale, width * scale
    image = _mirror(_stored_image(), tall + _MOTION[0] * count, wide + _MOTION[1] * count)
    random = np.random.default_rng(20_261_121)
    frames: list[Frame] = []
    truths: list[Frame] = []
    for number in range(count):
        top, left = (number * step for step in _MOTION)
        truth = np.ascontiguousarray(image[top : top + tall, left : left + wide])
        small = np.asarray(Image.fromarray(truth).reduce(scale) if scale > 1 else truth) / np.float32(255)
        noisy = small + random.normal(0.0, _NOISE, small.shape).astype(np.float32)
        frames.append(np.ascontiguousarray(np.clip(noisy, 0.0, 1.0).transpose(2, 0, 1)))
        truths.append(np.ascontiguousarray(truth.transpose(2, 0, 1), np.float32) / np.float32(255))
    return GoldenClip(tuple(frames), tuple(truths))


def find_seam(errors: Sequence[Frame], canvas: Canvas) -> float:
    """Return the RMS error where tiles meet over the RMS error elsewhere; 0 for a single tile.

    Args:
        errors: (3, scale height, scale width) of each frame.
        canvas: Two tiles side by side.
    """
    if len(canvas.tiles) < 2:
        return 0.0
    middle = canvas.tiles[0].keep_right * canvas.scale * canvas.grid
    beside = _BESIDE * canvas.scale
    # Frame by frame, and in float32: whole clips in float64 would take more memory than everything else.
    square = np.mean([np.square(error).mean(axis=(0, 1), dtype=np.float64) for error in errors], axis=0)
    joint = slice(max(0, middle - beside), middle + beside)
    elsewhere = np.delete(square, np.arange(joint.start, min(joint.stop, square.size)))
    at_joint = float(np.sqrt(square[joint].mean()))
    return at_joint / max(float(np.sqrt(elsewhere.mean())), _LEAST_ERROR)


def measure_psnr(ours: Sequence[Frame], theirs: Sequence[Frame]) -> float:
    """Return the PSNR over all frames, in dB: NaN where one is not finite, 150 where there is no difference."""
    error = float(np.mean([np.square(a - b).mean(dtype=np.float64) for a, b in zip(ours, theirs, strict=True)]))
    return _BEST_DB if error == 0 else min(_BEST_DB, -10 * float(np.log10(error)))


def _run_video(model: Model, backend: Backend, canvas: Canvas, clip: GoldenClip) -> tuple[list[Frame], int]:
    """Run the clip as a job would; return the frames, and the number of tiles that were not valid."""
    spec = model.manifest.video
    assert spec is not None
    window = MotionEstimator(canvas, aligned=spec.aligned_by == "flow")
    step = open_runner(model, backend, canvas, strength=1.0)
    made: list[Frame] = []
    try:
        for number, frame in enumerate(clip.frames):
            # The step may overwrite the array.
            pushed = step.push(window.push(frame, pts=number, duration=1))
            made.extend(np.array(finished.rgb) for finished in pushed)
        made.extend(np.array(finished.rgb) for finished in step.flush())
        return made, len(step.reruns)
    finally:
        step.close()


@lru_cache(maxsize=1)
def _stored_image() -> NDArray[np.uint8]:
    path = zoo_folder() / "golden" / "picture.webp"
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except OSError as error:
        raise EngineStoreError(f"the golden clip {path} cannot be read: {error}; reinstall Relume") from error


def _mirror(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    more = [(0, max(0, want - have)) for want, have in zip((height, width), image.shape, strict=False)]
    return np.pad(image, (*more, (0, 0)), mode="symmetric")[:height, :width]


@dataclass(frozen=True, slots=True)
class VerifiedEngine:
    """The result of a check: a golden test, or a defect; the engine is then quarantined unless it is outdated."""

    name: str
    golden_test: GoldenTestResult | None
    defect: str = ""


def verify_engine(store: EngineStore, name: str, *, threads: int) -> VerifiedEngine:
    """Check one ready engine, and quarantine it if it fails.

    Args:
        store: The store.
        name: The name of the engine, or its beginning.
        threads: CPU threads of the golden test.

    Raises:
        EngineStoreError: There is no such engine, or it is just being built again.
    """
    folder, entry = find_ready(store, name)
    change = describe_changes(store, entry)
    if change:
        return VerifiedEngine(entry.name, None, f"outdated, so it is not used: {change}")
    lock = FileLock.try_exclusive(store.layout.lock(entry.name))
    if lock is None:
        raise EngineStoreError(f"engine {entry.name} is being rebuilt; try again later")
    with lock:
        kind, defect, golden_test = FailureKind.DAMAGED, find_defect(folder, entry.digest), None
        if not defect:
            try:
                request = request_of(entry.parts, entry.source)
                golden_test = validate_engine(request, folder / entry.file.path, threads=threads)
            except RelumeError as error:
                kind, defect = FailureKind.FAILED_TEST, str(error)
        if defect:
            failure = BuildFailure(kind=kind, reason=defect, at=time.time(), source=entry.source, parts=entry.parts)
            write_durably(folder / FAILURE, failure.dump())
            move_folder(folder, store.layout.quarantine / entry.name)
    return VerifiedEngine(entry.name, golden_test, defect)
