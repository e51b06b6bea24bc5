"""What a video network reads while it runs as shipped: decode, colour, window, tiles and warped state of real clips.

The tensors are taken where the engine gets them, so nothing of the pipeline is rebuilt here that could differ from it.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.sample_clip import write_clip
from calibration.recording import RecordingBackend, Tensors
from kernels.colour import YuvLayout, yuv_to_rgb
from runtime.engine.session import Backend
from runtime.errors import DecodeError
from runtime.manifest import Model, Role
from runtime.media.probe import probe
from runtime.media.video_reader import VideoReader
from runtime.video.frames import EnhancedFrame, Step
from runtime.video.motion import MotionEstimator
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import Canvas, plan_canvas

Frame = NDArray[np.float32]


def read_frames(clip: Path, *, frames: int, side: int | None = None) -> Iterator[Frame]:
    """Decode the first frames of a clip as the video pipeline does.

    Args:
        clip: A file with a picture.
        frames: How many at most.
        side: Bring larger clips down to this short side by bicubic, as poor material is small; as it is without it.

    Yields:
        (3, height, width) float32, RGB in [0, 1].

    Raises:
        DecodeError: The clip has no picture that can be read.
    """
    videos = probe(clip).videos
    if not videos:
        raise DecodeError(f"{clip} has no picture to calibrate with; give clips that have one")
    with VideoReader(clip, videos[0]) as reader:
        kr, kb = reader.colour.luma_weights
        layout = YuvLayout(kr, kb, reader.colour.full_range, reader.bit_depth, reader.chroma)
        for picture in islice(reader, frames):
            rgb = np.empty((3, picture.height, picture.width), np.float32)
            yuv_to_rgb(picture.planes, layout, rgb)
            yield _bring_down(rgb, side)


def record_calls(model: Model, frames: Iterable[Frame], *, role: Role = "step") -> Iterator[Tensors]:
    """Run a video model over a clip's frames in float32 and give what one of its engines got, call after call.

    Args:
        model: A model of a zoo.
        frames: Of one clip, in order, all of one size.
        role: The file whose calls are given.

    Yields:
        Every input of one call by name; the arrays belong to the caller.
    """
    calls: list[Tensors] = []
    for _ in run_model(model, frames, RecordingBackend(calls, role)):
        yield from calls
        calls.clear()
    yield from calls


def run_model(model: Model, frames: Iterable[Frame], backend: Backend) -> Iterator[Frame]:
    """Enhance the frames of one scene as the video pipeline does.

    Args:
        model: A video model of a zoo.
        frames: (3, height, width) float32 in [0, 1], all of one size.
        backend: Opens its sessions.

    Yields:
        (3, scale height, scale width) float32 of each frame, not clamped, in order.

    Raises:
        ArithmeticError: A tile was not finite and something else stands in its place.
    """
    spec = model.manifest.video
    assert spec is not None
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        return
    canvas = plan_canvas(first.shape[1], first.shape[2], spec)
    window = MotionEstimator(canvas, aligned=spec.aligned_by == "flow")
    with closing(open_runner(model, backend, canvas, strength=1.0)) as step:
        for index, frame in enumerate(chain((first,), rest)):
            made = step.push(window.push(pad_to_canvas(frame, canvas), pts=index, duration=1))
            yield from _sound(step, made, model)
        yield from _sound(step, step.flush(), model)


def pad_to_canvas(frame: Frame, canvas: Canvas) -> Frame:
    """Repeat a frame's last row and column up to its canvas."""
    rows, columns = canvas.height * canvas.grid - frame.shape[1], canvas.width * canvas.grid - frame.shape[2]
    return np.pad(frame, ((0, 0), (0, rows), (0, columns)), mode="edge")


def make_sample(folder: Path) -> Path:
    """Make the sample clip: what there is to calibrate with where nobody gave a clip."""
    path = folder / "sample.mp4"
    write_clip(path)
    return path


def _sound(step: Step, made: Iterable[EnhancedFrame], model: Model) -> Iterator[Frame]:
    for frame in made:
        if step.reruns:
            raise ArithmeticError(f"{model.manifest.name}: a tile of frame {step.reruns[0].frame} is not finite")
        yield frame.rgb


def _bring_down(rgb: Frame, side: int | None) -> Frame:
    height, width = rgb.shape[1:]
    if side is None or min(height, width) <= side:
        return rgb
    shrink = min(height, width) / side
    size = (round(width / shrink) // 4 * 4, round(height / shrink) // 4 * 4)
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC), np.float32) for plane in rgb]
    return np.stack(planes).clip(0, 1)
