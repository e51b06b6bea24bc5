"""One step of a recurrent network over a whole frame, tile by tile, its state on a canvas the size of the frame."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.tiles import Tile, add_tile, read_tile, tile_window, write_tile
from kernels.warp import warp
from runtime.closing import Closing
from runtime.engine.session import Backend, Session
from runtime.errors import ManifestError
from runtime.manifest import Model
from runtime.video.fallback import TileRetry, is_valid, upscale_bicubic
from runtime.video.frames import EnhancedFrame, States
from runtime.video.motion import PreparedFrame
from runtime.video.tile_plan import Canvas

Frame = NDArray[np.float32]


class RecurrentRunner(Closing):
    """Run a step engine over frames of one size; a `runtime.video.frames.Runner` that never looks ahead.

    The engine takes `frame` (1, 3, h, w), `strength` (1,) and the manifest's state tensors, and gives `output`
    (1, 3, scale h, scale w) and the next states. A context manager; frames come in order, from one thread.
    """

    fills_buffers: bool = True

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
        self._strength = np.array([strength], np.float32)
        self._states: dict[str, Frame] | None = None
        self._spare: dict[str, Frame] = {}
        self.backend, self.precision = self._session.backend, self._session.precision
        self.reruns: list[TileRetry] = []

    def push(self, frame: PreparedFrame, out: Frame | None = None) -> Iterator[EnhancedFrame]:
        """Enhance the next frame at once; see `run`."""
        yield EnhancedFrame(frame.index, frame.pts, frame.duration, self.run(frame, out), out)

    def flush(self) -> Iterator[EnhancedFrame]:
        """Return nothing: no frame waits."""
        return iter(())

    def run(self, window: PreparedFrame, out: Frame | None = None) -> Frame:
        """Enhance the next frame.

        Args:
            window: The frame, and its motion since the previous one (None begins a new state).
            out: (3, scale padded height, scale padded width) float32 to fill; a new array without it.

        Returns:
            The enhanced frame, cut to the source's size times the scale: a view of `out` or of a new array.
        """
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        states = self._states if window.flow is not None else None
        if len(canvas.tiles) == 1:
            result, following = self._run_tile(window, 0, states)
            self._states = following
            picture = result
        else:
            picture = (
                out if out is not None else np.empty((3, canvas.height * factor, canvas.width * factor), np.float32)
            )
            self._run_tiles(window, states, picture)
        return picture[:, : canvas.source_height * canvas.scale, : canvas.source_width * canvas.scale]

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

    def _run_tiles(self, window: PreparedFrame, states: dict[str, Frame] | None, picture: Frame) -> None:
        """Run every tile; the next state goes to a second canvas, for neighbours still read the first."""
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        following = self._spare or self._new_states()
        weight = np.zeros(picture.shape[1:], np.float32) if self._spec.overlap else None
        if weight is not None:
            picture[:] = 0
        for number, tile in enumerate(canvas.tiles):
            result, tile_states = self._run_tile(window, number, states)
            if weight is None:
                write_tile(picture, tile, result, scale=factor)
            else:
                fade = tile_window(tile, canvas.height, canvas.width, overlap=self._spec.overlap, scale=factor)
                add_tile(picture, weight, tile, result, fade, scale=factor)
            for name, state in tile_states.items():
                write_tile(following[name], tile, state)
        if weight is not None:
            picture /= weight
        self._spare = self._states or {}
        self._states = following

    def _new_states(self) -> dict[str, Frame]:
        canvas = self._canvas
        return {
            name: np.zeros((channels, canvas.height, canvas.width), np.float32)
            for name, channels in self._channels.items()
        }

    def _run_tile(
        self, window: PreparedFrame, number: int, states: dict[str, Frame] | None
    ) -> tuple[Frame, dict[str, Frame]]:
        """Run one tile; where its result is not finite, once more from a clean state, then fall back to bicubic."""
        tile = self._canvas.tiles[number]
        frame = np.ascontiguousarray(read_tile(window.rgb, tile, scale=self._canvas.grid))
        result, following = self._call(frame, self._read_states(tile, window, states))
        if is_valid(result, following.values()):
            return result, following
        result, following = self._call(frame, self._read_states(tile, window, None))
        cured = is_valid(result, following.values())
        self.reruns.append(TileRetry(window.index, number, cured))
        if cured:
            return result, following
        clean = {name: np.zeros_like(state) for name, state in following.items()}
        return upscale_bicubic(frame, self._canvas.scale), clean

    def _call(self, frame: Frame, states: dict[str, Frame]) -> tuple[Frame, dict[str, Frame]]:
        tensors = {"frame": frame[None], "strength": self._strength}
        tensors |= {name: state[None] for name, state in states.items()}
        results = self._session.run(tensors)
        return results["output"][0], {into: results[outof][0] for into, outof in self._pairs}

    def _read_states(self, tile: Tile, window: PreparedFrame, states: dict[str, Frame] | None) -> dict[str, Frame]:
        """Fetch a tile's states from where its pixels were in the previous frame; zeros at the start."""
        if states is None:
            return {
                name: np.zeros((count, tile.height, tile.width), np.float32) for name, count in self._channels.items()
            }
        assert window.flow is not None
        flow = read_tile(window.flow, tile)
        return {name: warp(state, flow, top=tile.top, left=tile.left) for name, state in states.items()}
