"""Recurrent runner: one step of a network a frame, tile by tile, its state on a canvas the size of the frame."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.colour import rgb_to_luma
from kernels.tiles import Tile, add_tile, read_tile, tile_window, write_tile
from kernels.warp import warp
from runtime.closing import Closing
from runtime.engine.session import Backend, Session
from runtime.errors import ManifestError
from runtime.manifest import Model
from runtime.video.degradation import describe_degradation
from runtime.video.fallback import TileRetry, is_valid, upscale_bicubic
from runtime.video.frames import EnhancedFrame, States
from runtime.video.motion import PreparedFrame
from runtime.video.tile_plan import Canvas

Frame = NDArray[np.float32]


class RecurrentRunner(Closing):
    """Run a step engine over frames of one size; a `runtime.video.frames.Runner` that never looks ahead.

    The engine takes `frame` (1, 3, h, w), `strength` (1,), the manifest's state tensors and, if it has that input,
    `degradation` (1, 8); it returns `output` (1, 3, scale h, scale w) and the next states. A context manager; frames
    come in order, from one thread.
    """

    def __init__(self, model: Model, backend: Backend, canvas: Canvas, *, strength: float) -> None:
        spec = model.manifest.video
        if spec is None:
            raise ManifestError(f"model {model.manifest.name} is not a video model")
        self._canvas = canvas
        self._spec = spec
        height, width = canvas.tile_shape
        self._session: Session = backend.open(model, "step", {"height": height, "width": width, "batch": 1})
        shapes = {binding.name: binding.shape for binding in self._session.inputs}
        self._pairs = [(state.input, state.output) for state in model.manifest.states]
        self._channels = {state.input: shapes[state.input][1] for state in model.manifest.states}
        self._constants = {"strength": np.array([strength], np.float32)}
        self._takes_degradation = "degradation" in shapes
        self._states: dict[str, Frame] | None = None
        self._output: Frame | None = None
        self.backend, self.precision = self._session.backend, self._session.precision
        self.reruns: list[TileRetry] = []

    def push(self, frame: PreparedFrame) -> Iterator[EnhancedFrame]:
        """Enhance the next frame at once; see `run`."""
        yield EnhancedFrame(frame.index, frame.pts, frame.duration, self.run(frame))

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
        states = self._states if frame.flow is not None else None
        if self._takes_degradation:
            luma = rgb_to_luma(frame.rgb, 1)[: canvas.source_height, : canvas.source_width]
            self._constants["degradation"] = describe_degradation(luma)[None]
        if len(canvas.tiles) == 1:
            result, self._states = self._run_tile(frame, 0, states)
        else:
            result = self._run_tiles(frame, states)
        return result[:, : canvas.source_height * canvas.scale, : canvas.source_width * canvas.scale]

    @property
    def states(self) -> States:
        """The recurrent state after the newest frame, (channels, height, width) each; the next frame overwrites it."""
        return self._states or {}

    def restore(self, states: States, reruns: Sequence[TileRetry]) -> None:
        """Go on with the state of an earlier run, which becomes this step's own."""
        self._states, self.reruns = states or None, list(reruns)

    def close(self) -> None:
        """Close the engine's session."""
        self._session.close()

    def _run_tiles(self, frame: PreparedFrame, states: dict[str, Frame] | None) -> Frame:
        """Run every tile; its next state takes the place of the old one once no later tile reads there."""
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        if self._output is None:
            self._output = np.empty((3, canvas.height * factor, canvas.width * factor), np.float32)
        output, weight = self._output, None
        if self._spec.overlap:
            output[:], weight = 0, np.zeros(output.shape[1:], np.float32)
        last_readers = find_last_readers(canvas, frame.flow if states is not None else None)
        self._states = self._states or self._new_states()
        waiting: dict[int, dict[str, Frame]] = {}
        for number, tile in enumerate(canvas.tiles):
            result, waiting[number] = self._run_tile(frame, number, states)
            if weight is None:
                write_tile(output, tile, result, scale=factor)
            else:
                fade = tile_window(tile, canvas.height, canvas.width, overlap=self._spec.overlap, scale=factor)
                add_tile(output, weight, tile, result, fade, scale=factor)
            for ready in [one for one in waiting if last_readers[one] <= number]:
                for name, state in waiting.pop(ready).items():
                    write_tile(self._states[name], canvas.tiles[ready], state)
        if weight is not None:
            output /= weight
        return output

    def _new_states(self) -> dict[str, Frame]:
        canvas = self._canvas
        return {
            name: np.zeros((channels, canvas.height, canvas.width), np.float32)
            for name, channels in self._channels.items()
        }

    def _run_tile(
        self, frame: PreparedFrame, number: int, states: dict[str, Frame] | None
    ) -> tuple[Frame, dict[str, Frame]]:
        """Run one tile; where its result is not finite, once more from a clean state, then fall back to bicubic."""
        tile = self._canvas.tiles[number]
        rgb = np.ascontiguousarray(read_tile(frame.rgb, tile, scale=self._canvas.grid))
        result, next_states = self._call(rgb, self._read_states(tile, frame, states))
        if is_valid(result, next_states.values()):
            return result, next_states
        result, next_states = self._call(rgb, self._read_states(tile, frame, None))
        cured = is_valid(result, next_states.values())
        self.reruns.append(TileRetry(frame.index, number, cured))
        if cured:
            return result, next_states
        clean = {name: np.zeros_like(state) for name, state in next_states.items()}
        return upscale_bicubic(rgb, self._canvas.scale), clean

    def _call(self, rgb: Frame, states: dict[str, Frame]) -> tuple[Frame, dict[str, Frame]]:
        tensors = {"frame": rgb[None]} | self._constants
        tensors |= {name: state[None] for name, state in states.items()}
        results = self._session.run(tensors)
        return results["output"][0], {into: results[outof][0] for into, outof in self._pairs}

    def _read_states(self, tile: Tile, frame: PreparedFrame, states: dict[str, Frame] | None) -> dict[str, Frame]:
        """Fetch a tile's states from where its pixels were in the previous frame; zeros at the start."""
        if states is None:
            return {
                name: np.zeros((count, tile.height, tile.width), np.float32) for name, count in self._channels.items()
            }
        assert frame.flow is not None
        flow = read_tile(frame.flow, tile)
        return {name: warp(state, flow, top=tile.top, left=tile.left) for name, state in states.items()}


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
