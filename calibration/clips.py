"""What a video network reads while it runs as shipped: decode, colour, window, tiles and warped state of real clips.

The tensors are taken where the engine gets them, so nothing of the pipeline is rebuilt here that could differ from it.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibration.recording import RecordingOpener, Tensors
from kernels.colour import YuvLayout, yuv_to_rgb
from runtime.errors import DecodeError
from runtime.manifest import Model
from runtime.media.decode import VideoReader
from runtime.media.probe import probe
from runtime.sample.clip import write_clip
from runtime.video.canvas import Canvas, plan_canvas
from runtime.video.tiling import TiledStep
from runtime.video.window import TemporalWindow

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


def record_steps(model: Model, frames: Iterable[Frame]) -> Iterator[Tensors]:
    """Run a shipped step over a clip's frames in float32 and give what the engine got, tile after tile.

    Args:
        model: A model of the zoo whose role is "step".
        frames: Of one clip, in order, all of one size.

    Yields:
        Every input of one call by name; the arrays belong to the caller.
    """
    step: TiledStep | None = None
    window: TemporalWindow | None = None
    calls: list[Tensors] = []
    spec = model.manifest.video
    assert spec is not None
    try:
        for index, frame in enumerate(frames):
            if step is None or window is None:
                canvas = plan_canvas(frame.shape[1], frame.shape[2], spec)
                window = TemporalWindow(canvas, aligned=spec.aligned_by == "flow")
                step = TiledStep(model, RecordingOpener(calls), canvas, strength=1.0)
            step.run(window.push(pad_to_canvas(frame, canvas), pts=index, duration=1))
            yield from calls
            calls.clear()
    finally:
        if step is not None:
            step.close()


def pad_to_canvas(frame: Frame, canvas: Canvas) -> Frame:
    """Repeat a frame's last row and column up to its canvas."""
    rows, columns = canvas.height * canvas.grid - frame.shape[1], canvas.width * canvas.grid - frame.shape[2]
    return np.pad(frame, ((0, 0), (0, rows), (0, columns)), mode="edge")


def make_sample(folder: Path) -> Path:
    """Make the sample clip: what there is to calibrate with where nobody gave a clip."""
    path = folder / "sample.mp4"
    write_clip(path)
    return path


def _bring_down(rgb: Frame, side: int | None) -> Frame:
    height, width = rgb.shape[1:]
    if side is None or min(height, width) <= side:
        return rgb
    shrink = min(height, width) / side
    size = (round(width / shrink) // 4 * 4, round(height / shrink) // 4 * 4)
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC), np.float32) for plane in rgb]
    return np.stack(planes).clip(0, 1)
