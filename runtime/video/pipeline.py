"""The stages of video enhancement: decode, prepare, engine and encode, each in its own thread."""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from queue import Queue, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels.colour import YuvLayout, rgb_to_yuv, yuv_to_rgb
from kernels.grain import add_grain
from kernels.workers import SINGLE, Workers
from runtime.engine.session import Backend, Session
from runtime.manifest import Model
from runtime.media.pixel_formats import YuvFrame
from runtime.media.side_data import SideEntry
from runtime.stages import Stage, StageClock, StopSignal
from runtime.video.bidirectional import BidirectionalRunner
from runtime.video.degradation import estimate_noise
from runtime.video.fallback import TileRetry
from runtime.video.frames import EnhancedFrame, Runner, States
from runtime.video.motion import MotionEstimator, PreparedFrame
from runtime.video.recurrent import RecurrentRunner, open_step
from runtime.video.resident import ResidentFrame, open_resident
from runtime.video.sliding_window import SlidingWindowRunner
from runtime.video.static_tiles import StaticRule
from runtime.video.tile_plan import Canvas


def open_runner(
    model: Model,
    backend: Backend,
    canvas: Canvas,
    *,
    strength: float,
    workers: Workers = SINGLE,
    static: StaticRule | None = None,
    session: Session | None = None,
) -> Runner:
    """Open what runs a model; `workers` are the threads of the kernels around the network.

    With `static` a recurrent network keeps the results of tiles that stand still. A `session` is that of `open_step`.

    Raises:
        ManifestError: The model is not a video model, or its files do not fit what its manifest says.
        SessionError: The engine cannot be opened.
    """
    roles = {file.role for file in model.manifest.files}
    if "window" in roles:
        return SlidingWindowRunner(model, backend, canvas, strength=strength)
    if "backward" in roles:
        return BidirectionalRunner(model, backend, canvas, strength=strength, workers=workers)
    return RecurrentRunner(model, backend, canvas, strength=strength, workers=workers, static=static, session=session)


Frame = NDArray[np.float32]
In = TypeVar("In")
Out = TypeVar("Out")
Packet = TypeVar("Packet")
Packet_co = TypeVar("Packet_co", covariant=True)

# Above these sizes of an RGB frame, fewer of them wait between decoder and engine. At 7680x4320 one takes 400 MB; there
# the next one is prepared when the engine is done with the last, which costs a few per cent of the time.
_LARGE_FRAME_BYTES = 48 << 20
_HUGE_FRAME_BYTES = 200 << 20


class Encoder(Protocol[Packet_co]):
    """What the pipeline needs of an encoder."""

    def encode(self, picture: YuvFrame) -> Iterable[Packet_co]:
        """Encode one frame; packets come when the encoder is ready."""
        ...

    def flush(self) -> Iterable[Packet_co]:
        """Return the packets that the encoder still holds."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One frame before and after: (height, width, 3) uint8 RGB each."""

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SegmentBoundary:
    """The frame at which a new segment begins: by a scene cut, or because the one before is long enough.

    previous: (plane height, plane width) float32, the brightness of the frame before.
    """

    index: int
    is_cut: bool
    previous: Frame | None


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What was found in the frames that passed; frames are counted from the clip's first."""

    pts: "array[int]"
    scene_cuts: tuple[int, ...]
    reruns: tuple[TileRetry, ...]
    snapshot: Snapshot | None
    backend: str
    precision: str
    kept_tiles: int = 0
    """Tiles that stood still and were not computed again."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an earlier run ended: what was found in its frames, and the states that the next one needs."""

    pts: "array[int]"
    scene_cuts: tuple[int, ...]
    reruns: tuple[TileRetry, ...]
    snapshot: Snapshot | None
    previous: Frame | None
    states: States
    kept_tiles: int = 0


class Segmenter(Protocol):
    """Divides the video into segments; each method is called from one thread, frames in order."""

    def starts_segment(self, index: int, *, is_cut: bool) -> bool:
        """Return whether a segment begins with this frame."""
        ...

    def keep_state(self, join: SegmentBoundary, states: States) -> None:
        """Store the state that the frame of a boundary needs of those before; the arrays change after the call."""
        ...

    def end_segment(self, join: SegmentBoundary, passed: PipelineResult) -> None:
        """End the segment before a boundary; every earlier frame was encoded."""
        ...


@dataclass(frozen=True, slots=True)
class _Enhanced:
    """A frame on its way to the encoder; the first of a segment carries the boundary before it."""

    index: int
    frame: YuvFrame
    boundary: SegmentBoundary | None
    snapshot: Snapshot | None
    kept_tiles: int


class VideoPipeline(Generic[Packet]):
    """Enhance frames from a reader and yield encoded packets; memory is constant in the length of the clip.

    A context manager: leaving it stops every thread. `snapshot` holds the last frame whose index is among
    `snapshots`, once it has passed. With `start` it resumes where an earlier run ended, and `frames` begin there.
    `threads` are those of the kernels around the network; the result does not depend on them. `static` is of
    `open_runner`. The frames of a recurrent network whose engine offers its tensors on a GPU stay there; every tile is
    computed then, whatever `static` says.
    """

    def __init__(
        self,
        frames: Iterable[YuvFrame],
        encoder: Encoder[Packet],
        *,
        model: Model,
        backend: Backend,
        canvas: Canvas,
        strength: float,
        layout_in: YuvLayout,
        layout_out: YuvLayout,
        clock: StageClock,
        stop: StopSignal,
        on_frame: Callable[[int], None],
        snapshots: Set[int] = frozenset(),
        grain: float = 0.0,
        segmenter: Segmenter | None = None,
        start: ResumePoint | None = None,
        threads: int = 1,
        static: StaticRule | None = None,
    ) -> None:
        spec = model.manifest.video
        assert spec is not None
        self._frames, self._encoder, self._clock, self._stop = frames, encoder, clock, stop
        self._canvas, self._layout_in, self._layout_out = canvas, layout_in, layout_out
        self._on_frame, self._snapshots, self._segmenter = on_frame, snapshots, segmenter
        self._grain = grain
        self._workers = Workers(threads)
        session, self._resident = None, None
        if {file.role for file in model.manifest.files} == {"step"}:
            session = open_step(model, backend, canvas)
            self._resident = open_resident(
                model, session, canvas, strength=strength, layout_in=layout_in, layout_out=layout_out
            )
        if self._resident is None:
            self._motion = MotionEstimator(canvas, aligned=spec.aligned_by == "flow", workers=self._workers)
            self._runner = open_runner(
                model, backend, canvas, strength=strength, workers=self._workers, static=static, session=session
            )
        self._before: dict[int, NDArray[np.uint8]] = {}
        self._side_data: dict[int, tuple[SideEntry, ...]] = {}
        self._noise: dict[int, float] = {}
        self._boundaries: dict[int, SegmentBoundary] = {}
        """By index of frame, like the three above: what was found before the engine and is needed after it."""
        self._snapshot: Snapshot | None = None
        self._pts = array("q")
        self._first = 0 if start is None else len(start.pts)
        if start is not None:
            self._pts.extend(start.pts)
            if self._resident is not None:
                self._resident.restore(
                    self._first, start.previous, start.states, scene_cuts=start.scene_cuts, reruns=start.reruns
                )
            else:
                self._motion.restore(self._first, start.previous, start.scene_cuts)
                self._runner.restore(start.states, start.reruns)
            self._snapshot = start.snapshot
        self._kept_tiles = 0 if start is None else start.kept_tiles
        self._stages: list[Stage[Any, Any]] = []
        self._slots: Queue[None] = Queue()
        """Tokens for the RGB frames between decoder and engine."""
        self._free: SimpleQueue[Frame] = SimpleQueue()
        """RGB frames that are no longer in use: new memory would cost more than the conversion into it."""

    def packets(self) -> Iterator[Packet]:
        """Start the threads and yield the encoded packets in order."""
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        frame_bytes = 4 * 3 * canvas.height * canvas.width * factor**2
        large, huge = frame_bytes > _LARGE_FRAME_BYTES, frame_bytes > _HUGE_FRAME_BYTES
        for _ in range(1 if huge else 2 if large else 4):
            self._slots.put(None)
        depth = 1 if large else 2
        decoded = self._stage("decode", self._frames, self._decode, depth)
        enhanced: Stage[Any, _Enhanced]
        if self._resident is not None:
            enhanced = self._stage("engine", decoded, self._enhance_on_gpu, depth)
        else:
            prepared = self._stage("prepare", decoded, self._prepare, depth)
            enhanced = self._stage("engine", prepared, self._enhance, depth)
        return iter(self._stage("encode", enhanced, self._encode, 64))

    def result(self) -> PipelineResult:
        """Return what is known of the frames that came through so far."""
        runner = self._resident or self._runner
        cuts, reruns = tuple((self._resident or self._motion).scene_cuts), tuple(runner.reruns)
        backend, precision = runner.backend, runner.precision
        return PipelineResult(self._pts, cuts, reruns, self._snapshot, backend, precision, self._kept_tiles)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for stage in self._stages:
            stage.join()
        (self._resident or self._runner).close()
        self._workers.close()

    def _stage(
        self, name: str, source: Iterable[In], work: Callable[[Iterator[In]], Iterator[Out]], depth: int
    ) -> Stage[In, Out]:
        stage = Stage(name, source, work, depth=depth, stop=self._stop)
        self._stages.append(stage)
        return stage

    def _decode(self, frames: Iterator[YuvFrame]) -> Iterator[YuvFrame]:
        for index, frame in enumerate(self._clock.timed("decode", frames), start=self._first):
            if self._grain:
                with self._clock.measure("grain"):
                    self._noise[index] = _measure_noise(frame.planes[0], self._layout_in)
            yield frame

    def _prepare(self, frames: Iterator[YuvFrame]) -> Iterator[PreparedFrame]:
        """Convert to RGB, estimate the motion, and find where segments begin."""
        canvas = self._canvas
        size = (3, canvas.height * canvas.grid, canvas.width * canvas.grid)
        for source in frames:
            self._stop.take(self._slots)
            index, previous = self._motion.count, self._motion.previous
            if source.side_data and index >= self._first:
                self._side_data[index] = source.side_data
            with self._clock.measure("colour"):
                rgb = np.empty(size, np.float32) if self._free.empty() else self._free.get()
                yuv_to_rgb(source.planes, self._layout_in, rgb, workers=self._workers)
                if canvas.padded:
                    _repeat_edge(rgb, canvas.source_height, canvas.source_width)
            if index in self._snapshots:
                self._before[index] = _to_bytes(rgb[:, : canvas.source_height, : canvas.source_width])
            with self._clock.measure("flow"):
                frame = self._motion.push(rgb, pts=source.pts, duration=source.duration)
            self._pts.append(source.pts)
            is_cut = frame.flow is None
            if self._segmenter is not None and self._segmenter.starts_segment(index, is_cut=is_cut):
                self._boundaries[index] = SegmentBoundary(index, is_cut, previous)
            del source, rgb, previous  # the engine's alone from here on
            yield frame
            del frame

    def _enhance(self, frames: Iterator[PreparedFrame]) -> Iterator[_Enhanced]:
        for frame in frames:
            boundary = self._boundaries.get(frame.index)
            if boundary is not None and self._segmenter is not None:
                with self._clock.measure("store"):
                    self._segmenter.keep_state(boundary, self._runner.states)
                self._runner.begin_segment()
            yield from self._convert(self._runner.push(frame))
            if isinstance(self._runner, RecurrentRunner):  # the others keep frames
                self._free.put(frame.rgb)
            del frame
            self._slots.put(None)
        yield from self._convert(self._runner.flush())

    def _convert(self, frames: Iterator[EnhancedFrame]) -> Iterator[_Enhanced]:
        """Convert frames to the result's planes as they come, but for those that an earlier run encoded."""
        layout = self._layout_out
        for frame in self._clock.timed("engine", frames):
            if frame.index < self._first:
                continue
            with self._clock.measure("colour"):
                planes = rgb_to_yuv(frame.rgb, layout, workers=self._workers)
            snapshot, index = None, frame.index
            if index in self._snapshots:
                snapshot = Snapshot(self._before.pop(index), _to_bytes(frame.rgb))
            side_data = self._side_data.pop(index, ())
            result = YuvFrame(planes, layout.bit_depth, layout.chroma, frame.pts, frame.duration, side_data)
            yield _Enhanced(index, result, self._boundaries.pop(index, None), snapshot, frame.kept_tiles)

    def _enhance_on_gpu(self, frames: Iterator[YuvFrame]) -> Iterator[_Enhanced]:
        assert self._resident is not None
        for source in frames:
            index = self._resident.count
            if source.side_data:
                self._side_data[index] = source.side_data
            if index in self._snapshots:
                self._before[index] = _to_bytes(yuv_to_rgb(source.planes, self._layout_in))
            self._pts.append(source.pts)
            finished = self._resident.push(source, wants_rgb=index in self._snapshots)
            yield from map(self._deliver, self._clock.timed("engine", finished))
        yield from map(self._deliver, self._clock.timed("engine", self._resident.flush()))

    def _deliver(self, frame: ResidentFrame) -> _Enhanced:
        """Find whether a segment begins with a frame from the GPU, and store the state before it."""
        assert self._resident is not None
        boundary, snapshot, index = None, None, frame.index
        if self._segmenter is not None and self._segmenter.starts_segment(index, is_cut=frame.begins_scene):
            with self._clock.measure("store"):
                previous, states = self._resident.state_before()
                boundary = SegmentBoundary(index, frame.begins_scene, previous)
                self._segmenter.keep_state(boundary, states)
        if frame.rgb is not None:
            snapshot = Snapshot(self._before.pop(index), _to_bytes(frame.rgb))
        layout, side_data = self._layout_out, self._side_data.pop(index, ())
        result = YuvFrame(frame.planes, layout.bit_depth, layout.chroma, frame.pts, frame.duration, side_data)
        return _Enhanced(index, result, boundary, snapshot, 0)

    def _add_grain(self, one: _Enhanced) -> None:
        """Add a share of the noise by which the source exceeds the result."""
        luma = one.frame.planes[0]
        left = _measure_noise(luma, self._layout_out)
        removed = math.sqrt(max(0.0, self._noise.pop(one.index) ** 2 - left**2))
        add_grain(luma, self._grain * removed, self._layout_out, frame=one.index, workers=self._workers)

    def _encode(self, frames: Iterator[_Enhanced]) -> Iterator[Packet]:
        for one in frames:
            if one.boundary is not None and self._segmenter is not None:
                with self._clock.measure("store"):
                    self._segmenter.end_segment(one.boundary, self.result())
            self._snapshot = one.snapshot or self._snapshot
            self._kept_tiles += one.kept_tiles
            if self._grain:
                with self._clock.measure("grain"):
                    self._add_grain(one)
            with self._clock.measure("encode"):
                packets = list(self._encoder.encode(one.frame))
            yield from packets
            self._on_frame(one.index + 1)
        with self._clock.measure("encode"):
            packets = list(self._encoder.flush())
        yield from packets


def _measure_noise(luma: NDArray[Any], layout: YuvLayout) -> float:
    offset, span = layout.coding()[:2]
    return estimate_noise((luma.astype(np.float32) - np.float32(offset)) / np.float32(span))


def _repeat_edge(rgb: Frame, height: int, width: int) -> None:
    """Repeat the last row and column of the source over what the canvas has more."""
    rgb[:, :height, width:] = rgb[:, :height, width - 1 : width]
    rgb[:, height:] = rgb[:, height - 1 : height]


def _to_bytes(rgb: Frame) -> NDArray[np.uint8]:
    return np.ascontiguousarray((rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
