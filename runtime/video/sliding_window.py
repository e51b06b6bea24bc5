"""Sliding-window runner: networks of a window of frames (RVRT; an image network has a window of one) over a clip.

Windows overlap in time and their results are cross-faded, tiles overlap in space and are blended, so that no joint
shows. A scene's last window moves back until it ends with the scene; a scene shorter than a window is played on
backwards (frames 0 1 2 1 0 ...), as the network would see a camera that turns round. Frames of one scene never share a
window with those of another. What is held is one window of frames and of results, and the results that are faded out.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.colour import rgb_to_luma
from kernels.tiles import add_tile, read_tile, tile_window
from runtime.closing import Closing
from runtime.engine.session import Backend
from runtime.errors import ManifestError
from runtime.manifest import Model
from runtime.video.degradation import estimate_noise
from runtime.video.fallback import TileRetry, blend_by_strength, is_valid, upscale_bicubic
from runtime.video.frames import EnhancedFrame, States, frames_to_states, states_to_frames
from runtime.video.motion import PreparedFrame
from runtime.video.tile_plan import Canvas

Frame = NDArray[np.float32]


class SlidingWindowRunner(Closing):
    """Run a window engine over frames of one size; a `runtime.video.frames.Runner`.

    The engine has one input, (1, frames, channels, h, w) or, for one frame, (1, channels, h, w), and gives the same
    with 3 channels at `scale` times the sides. A fourth input channel is the noise level, sigma / 255, which is
    estimated frame by frame. Such networks know no strength: the result is blended with bicubic upscaling.
    """

    def __init__(self, model: Model, backend: Backend, canvas: Canvas, *, strength: float) -> None:
        spec = model.manifest.video
        if spec is None:
            raise ManifestError(f"model {model.manifest.name} is not a video model")
        self._canvas, self._strength = canvas, strength
        self._tile_overlap, self._fading = spec.overlap, spec.window_overlap
        self._session = backend.open(model, "window", {})
        self.backend, self.precision = self._session.backend, self._session.precision
        self.reruns: list[TileRetry] = []
        shape = self._session.inputs[0].shape
        self._length = shape[1] if len(shape) == 5 else 1
        self._takes_level = shape[-3] == 4
        expected = (spec.look_ahead + 1, *canvas.tile_shape)
        if len(self._session.inputs) != 1 or (self._length, *shape[-2:]) != expected:
            self._session.close()
            raise ManifestError(
                f"the window of model {model.manifest.name} takes {shape}, but its manifest says {expected[0]} frames "
                f"of {expected[2]}x{expected[1]}; import the model again"
            )
        self._held: list[PreparedFrame] = []
        """The scene's newest frames, a window of them at most."""
        self._tail: list[Frame] = []
        """Results that the next window fades out, of the frames before the newest `_fresh`."""
        self._fresh = 0

    def push(self, frame: PreparedFrame) -> Iterator[EnhancedFrame]:
        """Process the next frame; every `frames - window_overlap` frames all but the overlap come."""
        if frame.flow is None:
            yield from self.flush()
        self._held = [*self._held, frame][-self._length :]
        self._fresh += 1
        if self._waiting == self._length:
            yield from self._give(self._run_window(), keep=self._fading)

    def flush(self) -> Iterator[EnhancedFrame]:
        """End the scene: yield the results not yet yielded."""
        results = self._run_window() if self._fresh else self._tail
        yield from self._give(results, keep=0)
        self._held = []

    @property
    def _waiting(self) -> int:
        """Frames whose result is not given yet: the newest ones."""
        return len(self._tail) + self._fresh

    @property
    def states(self) -> States:
        """The window's frames, the tail of results, and how many frames are newer than it."""
        if not self._held:
            return {}
        return {
            **frames_to_states(self._held),
            "tail": np.array(self._tail, np.float32),
            "fresh": np.array(self._fresh),
        }

    def begin_segment(self) -> None:
        """Do nothing: frames are processed from `states` alone."""

    def restore(self, states: States, reruns: Sequence[TileRetry]) -> None:
        """Go on with the frames and results of an earlier run."""
        self.reruns = list(reruns)
        if states:
            self._held, self._tail = states_to_frames(states), list(states["tail"])
            self._fresh = int(states["fresh"])

    def close(self) -> None:
        """Close the engine's session."""
        self._session.close()

    def _give(self, results: list[Frame], *, keep: int) -> Iterator[EnhancedFrame]:
        """Yield the results of the newest frames, but for the last ones, which are the next tail."""
        count = len(results) - keep
        frames = self._held[len(self._held) - len(results) :]
        # Copies, for a view would hold the whole window's results.
        self._tail, self._fresh = [result.copy() for result in results[count:]], 0
        for frame, result in zip(frames[:count], results[:count], strict=True):
            picture = blend_by_strength(self._canvas, frame.rgb, result, self._strength)
            yield EnhancedFrame(frame.index, frame.pts, frame.duration, picture)

    def _run_window(self) -> list[Frame]:
        """Run the newest frames and give those that are not given yet, the tail's faded from the window before."""
        results = self._run_tiles(mirror(len(self._held), self._length))
        made = list(results[len(self._held) - self._waiting : len(self._held)])
        for place, before in enumerate(self._tail):
            share = np.float32(0.5 - 0.5 * np.cos(np.pi * (place + 0.5) / len(self._tail)))
            made[place] *= share
            made[place] += (1 - share) * before
        return made

    def _run_tiles(self, order: list[int]) -> Frame:
        """Run the held frames in an order; return (frames, 3, plane sides times scale)."""
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        levels = [self._level(frame) for frame in self._held]
        if len(canvas.tiles) == 1:
            return self._run_tile(0, order, levels)
        height, width = canvas.height * factor, canvas.width * factor
        total = np.zeros((len(order) * 3, height, width), np.float32)
        weight = np.zeros((height, width), np.float32)
        for number, tile in enumerate(canvas.tiles):
            result = self._run_tile(number, order, levels)
            fade = tile_window(tile, canvas.height, canvas.width, overlap=self._tile_overlap, scale=factor)
            add_tile(total, weight, tile, result.reshape(-1, *result.shape[-2:]), fade, scale=factor)
        total /= weight
        return total.reshape(len(order), 3, height, width)

    def _run_tile(self, number: int, order: list[int], levels: list[float | None]) -> Frame:
        """Run one tile of a window; a frame whose result is not valid is upscaled by bicubic instead.

        There is no state to blame, so nothing would change if the tile were run again.
        """
        canvas = self._canvas
        seen = [read_tile(frame.rgb, canvas.tiles[number], scale=canvas.grid) for frame in self._held]
        planes = [_with_level(seen[index], levels[index]) for index in order]
        (binding,) = self._session.inputs
        made = self._session.run({binding.name: np.stack(planes).reshape(binding.shape)})
        result: Frame = made[self._session.outputs[0].name].reshape(len(order), 3, *self._result_sides())
        for place in range(len(self._held) - self._waiting, len(self._held)):
            if is_valid(result[place]):
                continue
            result[place] = upscale_bicubic(seen[place], canvas.scale)
            rerun = TileRetry(self._held[place].index, number, cured=False)
            if rerun not in self.reruns:
                self.reruns.append(rerun)
        return result

    def _result_sides(self) -> tuple[int, int]:
        height, width = self._canvas.tile_shape
        factor = self._canvas.scale * self._canvas.grid
        return height * factor, width * factor

    def _level(self, frame: PreparedFrame) -> float | None:
        return estimate_noise(rgb_to_luma(frame.rgb, 1)) if self._takes_level else None


def mirror(count: int, length: int) -> list[int]:
    """Return the order in which `count` frames fill a window: forwards, then backwards, and so on."""
    if count == 1:
        return [0] * length
    there_and_back = [*range(count), *range(count - 2, 0, -1)]
    return [there_and_back[place % len(there_and_back)] for place in range(length)]


def _with_level(frame: Frame, level: float | None) -> Frame:
    if level is None:
        return frame
    return np.concatenate((frame, np.full((1, *frame.shape[1:]), level, np.float32)))
