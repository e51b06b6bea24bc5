"""The golden clip: a stored picture that moves, made small and noisy, and what an engine makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.engine.session import OpenSession
from runtime.engine.store.entry import Proof
from runtime.errors import EngineStoreError
from runtime.manifest import Model, VideoSpec, zoo_folder
from runtime.video.canvas import Canvas, plan_canvas
from runtime.video.opening import open_step
from runtime.video.window import TemporalWindow

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
_BEST_DB: Final = 150.0


@dataclass(frozen=True, slots=True)
class GoldenClip:
    """Frames and what they were made of: (3, height, width) and (3, scale height, scale width), RGB in [0, 1]."""

    frames: tuple[Frame, ...]
    truths: tuple[Frame, ...]


def compare_video(model: Model, dimensions: dict[str, int], tested: OpenSession, exact: OpenSession) -> Proof:
    """Run the golden clip through an engine and through the reference, in two tiles, and the reference in one.

    Raises:
        UnsoundError: Something is not finite, or there is a seam.
    """
    from runtime.engine.store.proof import UnsoundError

    spec = model.manifest.video
    assert spec is not None
    shape = tile_shape(spec, dimensions)
    # Two tiles that overlap by much: frames of two whole ones would take gigabytes for the largest shapes.
    width = min(2 * (shape[1] - spec.halo), shape[1] + 2 * spec.halo + _BESIDE_TILES)
    rows, columns = shape[0] * spec.grid, width * spec.grid
    clip = make_clip(rows, columns, scale=spec.scale, count=max(_LEAST_FRAMES, spec.look_ahead + 1))
    in_two = plan_canvas(rows, columns, spec.model_copy(update={"tile_shapes": (shape,)}))
    theirs, broken = _run(model, exact, in_two, clip)
    if broken:
        raise UnsoundError(
            f"in FP32 too {broken} of its tiles are not finite or far too large: the model itself is at fault"
        )
    ours, broken = _run(model, tested, in_two, clip)
    if broken:
        raise UnsoundError(f"{broken} of its tiles are not finite or far too large")
    reference = theirs
    if "height" in dimensions and spec.halo and not spec.overlap and width % spec.tile_multiple == 0:
        # With a halo as wide as the network sees, tiles leave no trace; blended ones are only compared with their like.
        whole = spec.model_copy(update={"tile_shapes": ((shape[0], width),)})
        reference, _ = _run(model, exact, plan_canvas(rows, columns, whole), clip)
    ratio = find_seam([mine - other for mine, other in zip(ours, reference, strict=True)], in_two)
    del reference
    if ratio > _MOST_RATIO:
        raise UnsoundError(f"where two tiles meet its error is {ratio:.1f} times the error elsewhere: a seam")
    loss = measure_psnr(theirs, clip.truths) - measure_psnr(ours, clip.truths)
    return Proof(agreement_db=measure_psnr(ours, theirs), quality_loss_db=loss, seam_ratio=ratio, time_s=0.0)


def tile_shape(spec: VideoSpec, dimensions: dict[str, int]) -> tuple[int, int]:
    """Give the tile that an engine is for: its own sizes, or the manifest's only shape where the file has no names.

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


def _run(model: Model, open_session: OpenSession, canvas: Canvas, clip: GoldenClip) -> tuple[list[Frame], int]:
    """Run the clip as a job would; give the frames, and how many tiles were not sound."""
    spec = model.manifest.video
    assert spec is not None
    window = TemporalWindow(canvas, aligned=spec.aligned_by == "flow")
    step = open_step(model, open_session, canvas, strength=1.0)
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
