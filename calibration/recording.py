"""Inputs of a model's engines, recorded where the shipped pipeline passes them to a session."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.sample_clip import write_clip
from kernels.colour import YuvLayout, yuv_to_rgb
from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.session import Array, Backend, Session
from runtime.errors import DecodeError
from runtime.manifest import Model, Role
from runtime.media.audio_reader import AudioReader
from runtime.media.probe import probe
from runtime.media.video_reader import VideoReader
from runtime.video.frames import EnhancedFrame, Runner
from runtime.video.motion import MotionEstimator
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import Canvas, plan_canvas
from training.speech_data import SAMPLE_RATE, Samples
from training.speech_measures import Mixture, si_sdr

Tensors = dict[str, NDArray[np.float32]]


class RecordingBackend:
    """Opens float32 sessions on the CPU and appends the inputs of one role's session to `calls`."""

    def __init__(self, calls: list[Tensors], recorded: Role) -> None:
        self._calls, self._recorded = calls, recorded

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session; see `runtime.engine.session.Backend`."""
        calls = self._calls

        class Recording(OnnxRuntimeCpuSession):
            def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
                calls.append({name: np.array(value) for name, value in tensors.items()})
                return super().run(tensors, out)

        opened = Recording if role == self._recorded else OnnxRuntimeCpuSession
        return opened(model.file(role=role), dimensions=shape, precision="fp32", threads=2)


Frame = NDArray[np.float32]


def read_frames(clip: Path, *, frames: int, side: int | None = None) -> Iterator[Frame]:
    """Decode the first frames of a clip as the video pipeline does.

    Args:
        clip: A file with a video stream.
        frames: Maximum number.
        side: Short side that larger clips are downscaled to by bicubic; None keeps the size.

    Yields:
        (3, height, width) float32, RGB in [0, 1].

    Raises:
        DecodeError: The clip has no video stream.
    """
    videos = probe(clip).videos
    if not videos:
        raise DecodeError(f"{clip} has no video stream; choose video clips")
    with VideoReader(clip, videos[0]) as reader:
        kr, kb = reader.colour.luma_weights
        layout = YuvLayout(kr, kb, reader.colour.full_range, reader.bit_depth, reader.chroma)
        for frame in islice(reader, frames):
            rgb = np.empty((3, frame.height, frame.width), np.float32)
            yuv_to_rgb(frame.planes, layout, rgb)
            yield _downscale(rgb, side)


def record_calls(model: Model, frames: Iterable[Frame], *, role: Role = "step") -> Iterator[Tensors]:
    """Run a video model over a clip's frames in float32 and yield the inputs of each call of one engine.

    Args:
        model: A model of a zoo.
        frames: Of one clip, in order, all of one size.
        role: The file whose calls are recorded.

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
        ArithmeticError: A tile was not finite.
    """
    spec = model.manifest.video
    assert spec is not None
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        return
    canvas = plan_canvas(first.shape[1], first.shape[2], spec)
    motion = MotionEstimator(canvas, aligned=spec.aligned_by == "flow")
    with closing(open_runner(model, backend, canvas, strength=1.0)) as runner:
        for index, frame in enumerate(chain((first,), rest)):
            made = runner.push(motion.push(pad_to_canvas(frame, canvas), pts=index, duration=1))
            yield from _checked_frames(runner, made, model)
        yield from _checked_frames(runner, runner.flush(), model)


def pad_to_canvas(frame: Frame, canvas: Canvas) -> Frame:
    """Pad a frame to its canvas by repeating the last row and column."""
    rows, columns = canvas.height * canvas.grid - frame.shape[1], canvas.width * canvas.grid - frame.shape[2]
    return np.pad(frame, ((0, 0), (0, rows), (0, columns)), mode="edge")


def make_sample(folder: Path) -> Path:
    """Write the sample clip, which is used if no clip is given."""
    path = folder / "sample.mp4"
    write_clip(path)
    return path


def _checked_frames(runner: Runner, made: Iterable[EnhancedFrame], model: Model) -> Iterator[Frame]:
    for frame in made:
        if runner.reruns:
            raise ArithmeticError(f"{model.manifest.name}: a tile of frame {runner.reruns[0].frame} is not finite")
        yield frame.rgb


def _downscale(rgb: Frame, side: int | None) -> Frame:
    height, width = rgb.shape[1:]
    if side is None or min(height, width) <= side:
        return rgb
    shrink = min(height, width) / side
    size = (round(width / shrink) // 4 * 4, round(height / shrink) // 4 * 4)
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC), np.float32) for plane in rgb]
    return np.stack(planes).clip(0, 1)


BLOCK_SAMPLES = 1000
"""A typical block of an audio decoder."""


def record_blocks(model: Model, recording: Path, *, blocks: int) -> Iterator[Tensors]:
    """Run a shipped speech model over a recording in float32 and yield the inputs of each call.

    Args:
        model: A speech model of the zoo.
        recording: A file with audio.
        blocks: Maximum number of calls.

    Yields:
        Every input of one call by name; the arrays belong to the caller.

    Raises:
        DecodeError: The file has no audio.
    """
    tracks = probe(recording).audios
    if not tracks:
        raise DecodeError(f"{recording} has no audio stream; choose recordings")
    track = tracks[0]
    calls: list[Tensors] = []
    with (
        AudioReader(recording, track) as reader,
        SpeechEnhancer(
            model,
            RecordingBackend(calls, "step"),
            channels=track.channels,
            layout=track.layout,
            sample_rate=track.sample_rate,
        ) as enhancer,
    ):
        for block in reader:
            enhancer.push(block.samples)
            for call in calls[:blocks]:
                blocks -= 1
                yield call
            calls.clear()
            if not blocks:
                return


def enhance_speech(model: Model, noisy: Samples, backend: Backend, *, strength: float = 1.0) -> Samples:
    """Enhance 16 kHz mono in the shipped pipeline, in blocks of `BLOCK_SAMPLES`."""
    with SpeechEnhancer(
        model, backend, channels=1, layout="mono", sample_rate=SAMPLE_RATE, strength=strength
    ) as enhancer:
        starts = range(0, len(noisy), BLOCK_SAMPLES)
        parts = [enhancer.push(noisy[None, start : start + BLOCK_SAMPLES]) for start in starts]
        parts.append(enhancer.flush())
    return np.concatenate(parts, axis=1)[0]


def measure_si_sdr(model: Model, mixtures: Sequence[Mixture], backend: Backend) -> float:
    """Return the mean SI-SDR in dB of the enhanced mixtures."""
    enhanced = [enhance_speech(model, mixture.noisy, backend) for mixture in mixtures]
    return float(np.mean([si_sdr(mixture.clean, one) for mixture, one in zip(mixtures, enhanced, strict=True)]))
