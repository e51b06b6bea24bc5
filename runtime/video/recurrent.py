"""Recurrent runner: one step of a network a frame, tile by tile, its state on a canvas the size of the frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.colour import rgb_to_luma
from kernels.tiles import add_tile, read_tile, tile_window, write_tile
from kernels.warp import warp
from kernels.workers import SINGLE, Workers
from runtime.closing import Closing
from runtime.engine.session import Backend, Session
from runtime.errors import ManifestError
from runtime.manifest import Model
from runtime.video.degradation import describe_degradation
from runtime.video.fallback import TileRetry, is_valid, upscale_bicubic
from runtime.video.frames import EnhancedFrame, States, place_states
from runtime.video.motion import PreparedFrame
from runtime.video.static_tiles import StaticRule, StaticTiles
from runtime.video.tile_plan import Canvas

Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Made:
    """The buffers that one run of the engine fills; `tensors` are all of them, by the names of the engine's outputs.

    result: (3, tile sides times scale) float32.
    states: (channels, tile height, tile width) float32, the next states one after the other.
    """

    tensors: dict[str, Frame]
    result: Frame
    states: Frame


class RecurrentRunner(Closing):
    """Run a step engine over frames of one size; a `runtime.video.frames.Runner` that never looks ahead.

    The engine takes `frame` (1, 3, h, w), `strength` (1,), the manifest's state tensors and, if it has that input,
    `degradation` (1, 8); it returns `output` (1, 3, scale h, scale w) and the next states. A context manager; frames
    come in order, from one thread.

    The states of a network are the channels of one canvas, and the engine reads them from one buffer: a tile of all of
    them is warped at once, straight into its input. Buffers are used again from frame to frame.

    With `static` tiles that stand still keep their result and state; tiles that are blended never do. A `session` that
    `open_step` opened becomes the runner's.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        canvas: Canvas,
        *,
        strength: float,
        workers: Workers = SINGLE,
        static: StaticRule | None = None,
        session: Session | None = None,
    ) -> None:
        spec = model.manifest.video
        if spec is None:
            raise ManifestError(f"model {model.manifest.name} is not a video model")
        self._canvas, self._spec, self._workers = canvas, spec, workers
        height, width = canvas.tile_shape
        self._session = open_step(model, backend, canvas) if session is None else session
        shapes = {binding.name: binding.shape for binding in self._session.inputs}
        self._outputs_of = {state.input: state.output for state in model.manifest.states}
        channels = {name: shapes[name][1] for name in self._outputs_of}
        self._channels, count = place_states(channels), sum(channels.values())
        self._inputs = {one.name: np.zeros(one.shape, one.dtype) for one in self._session.inputs}
        self._warped = np.zeros((count, height, width), np.float32)
        self._inputs |= {name: self._warped[None, part] for name, part in self._channels.items()}
        self._inputs["strength"][:] = strength
        self._state: Frame | None = None
        """(channels, plane height, plane width); of a single tile the states in `_newest`."""
        self._newest: _Made | None = None
        self._free: list[_Made] = []
        self._output: Frame | None = None
        self.backend, self.precision = self._session.backend, self._session.precision
        self.reruns: list[TileRetry] = []
        self._static = StaticTiles(len(canvas.tiles), static) if static is not None and not spec.overlap else None
        self._kept = 0

    def push(self, frame: PreparedFrame) -> Iterator[EnhancedFrame]:
        """Enhance the next frame at once; see `run`."""
        self._kept = 0
        result = self.run(frame)
        yield EnhancedFrame(frame.index, frame.pts, frame.duration, result, self._kept)

    def flush(self) -> Iterator[EnhancedFrame]:
        """Return nothing: no frame waits."""
        return iter(())

    def run(self, frame: PreparedFrame) -> Frame:
        """Enhance the next frame.

        Returns:
            The enhanced frame, cut to the source's size times the scale: a view of an array that the next call
            overwrites.
        """
        canvas = self._canvas
        if "degradation" in self._inputs:
            luma = rgb_to_luma(frame.rgb, 1)[: canvas.source_height, : canvas.source_width]
            self._inputs["degradation"][:] = describe_degradation(luma)
        if len(canvas.tiles) == 1:
            made = self._run_tile(frame, 0, self._state if frame.flow is not None else None)
            if made is not None:
                if self._newest is not None:
                    self._free.append(self._newest)
                self._newest, self._state = made, made.states
            assert self._newest is not None
            result = self._newest.result
        else:
            result = self._run_tiles(frame)
        return result[:, : canvas.source_height * canvas.scale, : canvas.source_width * canvas.scale]

    @property
    def states(self) -> States:
        """The recurrent state after the newest frame, (channels, height, width) each; the next frame overwrites it."""
        state = self._state
        return {} if state is None else {name: state[part] for name, part in self._channels.items()}

    def begin_segment(self) -> None:
        """Compute every tile of the next frame: results of earlier frames are no part of what is stored."""
        if self._static is not None:
            self._static.forget()

    def restore(self, states: States, reruns: Sequence[TileRetry]) -> None:
        """Go on with the state of an earlier run."""
        self._state = np.concatenate([states[name] for name in self._channels]) if states else None
        self.reruns = list(reruns)

    def close(self) -> None:
        """Close the engine's session."""
        self._session.close()

    def _run_tiles(self, frame: PreparedFrame) -> Frame:
        """Run every tile; its next state takes the place of the old one once no later tile reads there."""
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        if self._output is None:
            self._output = np.empty((3, canvas.height * factor, canvas.width * factor), np.float32)
        output, weight = self._output, None
        if self._spec.overlap:
            output[:], weight = 0, np.zeros(output.shape[1:], np.float32)
        state = self._state if frame.flow is not None else None
        last_readers = find_last_readers(canvas, frame.flow if state is not None else None)
        if self._state is None:
            self._state = np.zeros((len(self._warped), canvas.height, canvas.width), np.float32)
        waiting: dict[int, _Made] = {}
        for number, tile in enumerate(canvas.tiles):
            made = self._run_tile(frame, number, state)
            if made is not None:
                waiting[number] = made
                if weight is None:
                    write_tile(output, tile, made.result, scale=factor)
                else:
                    fade = tile_window(tile, canvas.height, canvas.width, overlap=self._spec.overlap, scale=factor)
                    add_tile(output, weight, tile, made.result, fade, scale=factor)
            for ready in [one for one in waiting if last_readers[one] <= number]:
                made = waiting.pop(ready)
                write_tile(self._state, canvas.tiles[ready], made.states)
                self._free.append(made)
        if weight is not None:
            output /= weight
        return output

    def _run_tile(self, frame: PreparedFrame, number: int, state: Frame | None) -> _Made | None:
        """Run one tile; where its result is not finite, once more from a clean state, then fall back to bicubic.

        None for a tile that keeps its result and state.
        """
        tile = self._canvas.tiles[number]
        rgb = read_tile(frame.rgb, tile, scale=self._canvas.grid)
        np.copyto(self._inputs["frame"][0], rgb)
        if self._static is not None and self._keeps(frame, number):
            self._kept += 1
            return None
        made = self._free.pop() if self._free else self._new_buffers()
        if state is None or frame.flow is None or not state.size:
            self._warped[:] = 0
        else:
            flow = read_tile(frame.flow, tile)
            warp(state, flow, top=tile.top, left=tile.left, out=self._warped, workers=self._workers)
        self._call(made)
        if is_valid(made.result, [made.states]):
            if self._static is not None:
                self._static.note_run(number, self._inputs["frame"][0])
            return made
        if self._static is not None:
            self._static.note_failure(number)
        self._warped[:] = 0
        self._call(made)
        cured = is_valid(made.result, [made.states])
        self.reruns.append(TileRetry(frame.index, number, cured))
        if not cured:
            made.result[:] = upscale_bicubic(rgb, self._canvas.scale)
            made.states[:] = 0
        return made

    def _keeps(self, frame: PreparedFrame, number: int) -> bool:
        """Return whether a tile, already in the engine's input, stands still; in a new scene none does."""
        assert self._static is not None
        if frame.flow is None:
            self._static.note_failure(number)
            return False
        return self._static.is_still(number, frame.index, self._inputs["frame"][0])

    def _call(self, made: _Made) -> None:
        """Run the engine on its inputs."""
        self._session.run(self._inputs, made.tensors)

    def _new_buffers(self) -> _Made:
        states = np.zeros_like(self._warped)
        tensors = {one.name: np.zeros(one.shape, one.dtype) for one in self._session.outputs}
        tensors |= {self._outputs_of[name]: states[None, part] for name, part in self._channels.items()}
        return _Made(tensors, tensors["output"][0], states)


def open_step(model: Model, backend: Backend, canvas: Canvas) -> Session:
    """Open the engine of a recurrent model at the size of the tiles."""
    height, width = canvas.tile_shape
    return backend.open(model, "step", {"height": height, "width": width, "batch": 1})


def find_last_readers(canvas: Canvas, flow: Frame | None) -> list[int]:
    """Return for each tile the last one that reads the state where this one keeps it.

    Args:
        canvas: The tiles, in the order in which they run.
        flow: (2, height, width) float32, along which states are warped; None where none are read.
    """
    tiles = canvas.tiles
    if flow is None:
        return list(range(len(tiles)))
    low, high = np.empty((len(tiles), 2)), np.empty((len(tiles), 2))
    for number, tile in enumerate(tiles):
        motion = read_tile(flow, tile)
        for axis, (start, length) in enumerate(((tile.left, tile.width), (tile.top, tile.height))):
            low[number, axis] = np.floor(start + float(motion[axis].min()))
            high[number, axis] = np.floor(start + length - 1 + float(motion[axis].max())) + 2
    # Positions outside the canvas read its border; bilinear sampling reads one pixel further.
    border = np.array([canvas.width - 1, canvas.height - 1])
    low, high = np.clip(low, 0, border), np.clip(high, 0, border)
    kept_low = np.array([(tile.keep_left, tile.keep_top) for tile in tiles])
    kept_high = np.array([(tile.keep_right - 1, tile.keep_bottom - 1) for tile in tiles])
    reads: NDArray[np.bool_] = np.all((low[:, None] <= kept_high) & (high[:, None] >= kept_low), axis=2)
    return [max(number, int(np.flatnonzero(reads[:, number]).max(initial=0))) for number in range(len(tiles))]
