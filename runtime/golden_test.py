"""The golden test: an engine against ONNX Runtime in FP32, on a stored clip, before it may be used and whenever asked.

The clip is short but goes the whole way of a job: motion, state from frame to frame, two tiles side by side.
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
from runtime.engine.device import Flavour
from runtime.engine.session import Backend, Session
from runtime.engine.store.inventory import find_change, find_ready
from runtime.engine.store.key import EngineRequest, find_file
from runtime.engine.store.layout import SETBACK, Proof, Setback, SetbackKind, move_folder, request_of
from runtime.engine.store.store import EngineStore, find_fault
from runtime.errors import EngineStoreError, RelumeError
from runtime.file_lock import FileLock
from runtime.manifest import Model, Role, VideoSpec, zoo_folder
from runtime.video.motion import MotionEstimator
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import Canvas, plan_canvas

LEAST_AGREEMENT_DB: Final = {"fp32": 50.0, "fp16": 50.0, "int8": 40.0}
"""Against FP32, of a peak of 1. INT8 is judged by quality; far below this it would be another picture all the same."""
MOST_LOSS_DB: Final = 0.15
"""How much farther from the truth than FP32 an engine may be: what INT8 is allowed on real clips."""


class UnsoundError(EngineStoreError):
    """The engine runs, but fails the golden test."""


class NotRunnableError(EngineStoreError):
    """The engine cannot be opened here, so nothing is known of it."""


def prove_engine(request: EngineRequest, engine: Path, *, threads: int) -> Proof:
    """Run the golden test.

    Args:
        request: What the engine was built of.
        engine: Its file.
        threads: Of the processor.

    Raises:
        NotRunnableError: The engine cannot be opened here.
        UnsoundError: It gives something that is not finite, another picture or sound than FP32, or a seam.
        ManifestError: The model has no FP32 file to compare with.
    """
    started = time.monotonic()
    model, entry = find_file(request.source)
    model.file(role=entry.role, precision="fp32")  # the reference, refused before the engine is opened
    try:
        session = open_engine(engine, flavour=request.flavour, precision=request.precision, threads=threads)
    except RelumeError as error:
        raise NotRunnableError(f"{engine.name} cannot be opened here: {error}") from error

    with session:
        reference = ModelBackend(find_backend("cpu"), threads=threads)
        tested = _EngineUnderTest(session, entry.role, reference)
        proof = _compare(model, request, tested, reference)
    _judge(request, proof)
    return proof.model_copy(update={"time_s": time.monotonic() - started})


class _EngineUnderTest:
    """A `Backend` that opens one role as the engine and all others as the reference: parts are tested one at a time."""

    def __init__(self, engine: Session, role: Role, reference: Backend) -> None:
        self._engine, self._role, self._reference = engine, role, reference

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """See `Backend.open`."""
        return self._engine if role == self._role else self._reference.open(model, role, shape)


def open_engine(path: Path, *, flavour: Flavour, precision: str, threads: int) -> Session:
    """Open a built engine.

    Raises:
        SessionError: It cannot be opened here.
    """
    if flavour is Flavour.OPENVINO:
        from runtime.engine.openvino import OpenVinoSession

        return OpenVinoSession(path, dimensions={}, precision=precision, threads=threads)
    from runtime.engine.tensorrt import TensorRtSession

    return TensorRtSession(path, flavour=flavour, precision=precision)


def _compare(model: Model, request: EngineRequest, tested: Backend, reference: Backend) -> Proof:
    if model.manifest.video is not None:
        return compare_video(model, dict(request.dimensions), tested, reference)
    if model.manifest.audio is not None:
        return compare_audio(model, tested, reference)
    raise EngineStoreError(
        f"model {model.manifest.name} is for neither video nor audio: there is no golden test for it"
    )


def _judge(request: EngineRequest, proof: Proof) -> None:
    least = LEAST_AGREEMENT_DB[request.precision]
    if not proof.agreement_db >= least:
        raise UnsoundError(
            f"it agrees with ONNX Runtime in FP32 to {proof.agreement_db:.1f} dB, expected {least:g} dB in "
            f"{request.precision}"
        )
    if proof.quality_loss_db is not None and not proof.quality_loss_db <= MOST_LOSS_DB:
        raise UnsoundError(
            f"it is {proof.quality_loss_db:.2f} dB farther from the truth than FP32, expected {MOST_LOSS_DB} dB at most"
        )


Samples = NDArray[np.float32]

_BEST_DB: Final = 150.0


def compare_audio(model: Model, tested: Backend, reference: Backend) -> Proof:
    """Run the golden sound through an engine and through the reference, block by block with their states.

    Raises:
        UnsoundError: Something is not finite.
    """
    assert model.manifest.audio is not None
    sound = read_sound(model.manifest.audio.sample_rate)
    ours, broken = _run_audio(model, tested, sound)
    if broken:
        raise UnsoundError(f"{broken} of its blocks are not finite")
    theirs, _ = _run_audio(model, reference, sound)
    return Proof(agreement_db=measure_agreement(ours, theirs), time_s=0.0)


def measure_agreement(ours: Samples, theirs: Samples) -> float:
    """Measure the signal of the reference over what an engine differs from it by, in dB, at most 150."""
    error = float(np.mean((ours.astype(np.float64) - theirs) ** 2))
    peak = float(np.max(np.abs(theirs)))
    return _BEST_DB if error == 0 else min(_BEST_DB, 10 * float(np.log10(peak**2 / error)))


def read_sound(sample_rate: int) -> Samples:
    """Read the stored sound: (n,) float32 in [-1, 1].

    Raises:
        EngineStoreError: It is missing, or of another rate.
    """
    path = zoo_folder() / "golden" / "speech.wav"
    try:
        with wave.open(str(path), "rb") as file:
            rate, content = file.getframerate(), file.readframes(file.getnframes())
    except (OSError, wave.Error) as error:
        raise EngineStoreError(f"the golden sound {path} cannot be read: {error}; reinstall Relume") from error
    if rate != sample_rate:
        raise EngineStoreError(f"the golden sound is at {rate} Hz, the model at {sample_rate} Hz")
    samples: Samples = np.frombuffer(content, "<i2").astype(np.float32)
    return samples / np.float32(32768)


def _run_audio(model: Model, backend: Backend, sound: Samples) -> tuple[Samples, int]:
    denoiser = RecurrentDenoiser(model, backend)
    try:
        made = np.concatenate([denoiser.push(sound), denoiser.flush()])
        return made, denoiser.non_finite_blocks
    finally:
        denoiser.close()


Frame = NDArray[np.float32]

_LEAST_FRAMES: Final = 3
_BESIDE_TILES: Final = 32
_MOTION: Final = (2, 5)
"""Of the enlarged picture from frame to frame: downwards and to the right, in pixels."""
_NOISE: Final = 4 / 255
_BESIDE: Final = 4
"""What counts as the joint: so many pixels of the source on either side."""
_MOST_RATIO: Final = 2.0
_LEAST_ERROR: Final = 1e-4
"""Root of the mean square; under it, 80 dB, errors are roundings and their ratio means nothing."""


@dataclass(frozen=True, slots=True)
class GoldenClip:
    """Frames and what they were made of: (3, height, width) and (3, scale height, scale width), RGB in [0, 1]."""

    frames: tuple[Frame, ...]
    truths: tuple[Frame, ...]


def compare_video(model: Model, dimensions: dict[str, int], tested: Backend, reference: Backend) -> Proof:
    """Run the golden clip through an engine and through the reference, in two tiles, and the reference in one.

    Raises:
        UnsoundError: Something is not finite, or there is a seam.
    """
    spec = model.manifest.video
    assert spec is not None
    shape = tile_shape(spec, dimensions)
    # Two tiles that overlap by much: frames of two whole ones would take gigabytes for the largest shapes.
    width = min(2 * (shape[1] - spec.halo), shape[1] + 2 * spec.halo + _BESIDE_TILES)
    rows, columns = shape[0] * spec.grid, width * spec.grid
    clip = make_clip(rows, columns, scale=spec.scale, count=max(_LEAST_FRAMES, spec.look_ahead + 1))
    in_two = plan_canvas(rows, columns, spec.model_copy(update={"tile_shapes": (shape,)}))
    theirs, broken = _run_video(model, reference, in_two, clip)
    if broken:
        raise UnsoundError(
            f"in FP32 too {broken} of its tiles are not finite or far too large: the model itself is at fault"
        )
    ours, broken = _run_video(model, tested, in_two, clip)
    if broken:
        raise UnsoundError(f"{broken} of its tiles are not finite or far too large")
    aim = theirs
    if "height" in dimensions and spec.halo and not spec.overlap and width % spec.tile_multiple == 0:
        # With a halo as wide as the network sees, tiles leave no trace; blended ones are only compared with their like.
        whole = spec.model_copy(update={"tile_shapes": ((shape[0], width),)})
        aim, _ = _run_video(model, reference, plan_canvas(rows, columns, whole), clip)
    ratio = find_seam([mine - other for mine, other in zip(ours, aim, strict=True)], in_two)
    del aim
    if ratio > _MOST_RATIO:
        raise UnsoundError(f"where two tiles meet its error is {ratio:.1f} times the error elsewhere: a seam")
    loss = measure_psnr(theirs, clip.truths) - measure_psnr(ours, clip.truths)
    return Proof(agreement_db=measure_psnr(ours, theirs), quality_loss_db=loss, seam_ratio=ratio, time_s=0.0)


def tile_shape(spec: VideoSpec, dimensions: dict[str, int]) -> tuple[int, int]:
    """Return the tile that an engine is for: its own sizes, or the manifest's only shape where the file has no names.

    Raises:
        EngineStoreError: The file has no names, and the manifest more than one shape.
    """
    if "height" in dimensions and "width" in dimensions:
        return dimensions["height"], dimensions["width"]
    if len(spec.tile_shapes) != 1:
        raise EngineStoreError(f"got sizes {dimensions}; of {len(spec.tile_shapes)} tile shapes one is to be named")
    return spec.tile_shapes[0]


def make_clip(height: int, width: int, *, scale: int, count: int) -> GoldenClip:
    """Make the golden clip: the stored picture, mirrored until it is large enough, moves on from frame to frame.

    Args:
        height: Of a frame.
        width: Of a frame.
        scale: How much larger the truth is.
        count: Of frames.
    """
    tall, wide = height * scale, width * scale
    picture = _mirror(_stored_picture(), tall + _MOTION[0] * count, wide + _MOTION[1] * count)
    random = np.random.default_rng(20_261_121)
    frames: list[Frame] = []
    truths: list[Frame] = []
    for number in range(count):
        top, left = (number * step for step in _MOTION)
        truth = np.ascontiguousarray(picture[top : top + tall, left : left + wide])
        small = np.asarray(Image.fromarray(truth).reduce(scale) if scale > 1 else truth) / np.float32(255)
        noisy = small + random.normal(0.0, _NOISE, small.shape).astype(np.float32)
        frames.append(np.ascontiguousarray(np.clip(noisy, 0.0, 1.0).transpose(2, 0, 1)))
        truths.append(np.ascontiguousarray(truth.transpose(2, 0, 1), np.float32) / np.float32(255))
    return GoldenClip(tuple(frames), tuple(truths))


def find_seam(errors: Sequence[Frame], canvas: Canvas) -> float:
    """Compare the error where tiles meet with the error elsewhere: a ratio of roots of mean squares; 0 without a joint.

    Args:
        errors: (3, scale height, scale width) of each frame.
        canvas: Of two tiles side by side.
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
    """Measure PSNR over all frames, of a peak of 1; what is not finite gives NaN, no difference gives 150 dB."""
    error = float(np.mean([np.square(a - b).mean(dtype=np.float64) for a, b in zip(ours, theirs, strict=True)]))
    return _BEST_DB if error == 0 else min(_BEST_DB, -10 * float(np.log10(error)))


def _run_video(model: Model, backend: Backend, canvas: Canvas, clip: GoldenClip) -> tuple[list[Frame], int]:
    """Run the clip as a job would; give the frames, and how many tiles were not sound."""
    spec = model.manifest.video
    assert spec is not None
    window = MotionEstimator(canvas, aligned=spec.aligned_by == "flow")
    step = open_runner(model, backend, canvas, strength=1.0)
    made: list[Frame] = []
    try:
        for number, frame in enumerate(clip.frames):
            # A view of an array that the step fills again would change under us.
            pushed = step.push(window.push(frame, pts=number, duration=1))
            made.extend(np.array(finished.rgb) for finished in pushed)
        made.extend(np.array(finished.rgb) for finished in step.flush())
        return made, len(step.reruns)
    finally:
        step.close()


@lru_cache(maxsize=1)
def _stored_picture() -> NDArray[np.uint8]:
    path = zoo_folder() / "golden" / "picture.webp"
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise EngineStoreError(f"the golden clip {path} cannot be read: {error}; reinstall Relume") from error


def _mirror(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    more = [(0, max(0, want - have)) for want, have in zip((height, width), picture.shape, strict=False)]
    return np.pad(picture, (*more, (0, 0)), mode="symmetric")[:height, :width]


@dataclass(frozen=True, slots=True)
class Verified:
    """What an engine was found to be: sound with a proof, or at fault, and then in quarantine unless it is outdated."""

    name: str
    proof: Proof | None
    fault: str = ""


def verify_engine(store: EngineStore, name: str, *, threads: int) -> Verified:
    """Check one ready engine; what fails goes into quarantine, so that it is used no more.

    Args:
        store: Where it is.
        name: Of the engine, or the beginning of it.
        threads: Of the processor, in the golden test.

    Raises:
        EngineStoreError: There is no such engine, or it is just being built again.
    """
    folder, entry = find_ready(store, name)
    change = find_change(store, entry)
    if change:
        return Verified(entry.name, None, f"outdated, so it is not used: {change}")
    lock = FileLock.try_exclusive(store.shelves.lock(entry.name))
    if lock is None:
        raise EngineStoreError(f"engine {entry.name} is just being built again; wait for it")
    with lock:
        kind, fault, proof = SetbackKind.DAMAGED, find_fault(folder, entry.digest), None
        if not fault:
            try:
                request = request_of(entry.parts, entry.source)
                proof = prove_engine(request, folder / entry.file.path, threads=threads)
            except RelumeError as error:
                kind, fault = SetbackKind.UNSOUND, str(error)
        if fault:
            setback = Setback(kind=kind, reason=fault, at=time.time(), source=entry.source, parts=entry.parts)
            write_durably(folder / SETBACK, setback.dump())
            move_folder(folder, store.shelves.quarantine / entry.name)
    return Verified(entry.name, proof, fault)
