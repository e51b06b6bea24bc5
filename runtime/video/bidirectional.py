"""Bidirectional runner: networks in parts (BasicVSR, RealBasicVSR and its U-Net forms) over a clip of any length.

The parts are engines: `clean` (where the network has one), `flow`, `backward`, `forward`, `reconstruction`. Features
lie on a canvas the size of the frame and are warped between the engines by `kernels.warp`. Forward features go on from
frame to frame to the end of the scene, as in the whole network. Backward features would need the whole future, so they
are made of a window of frames: through all of it from its end, used for all but its last `window_overlap` frames, which
the next window makes again. A scene that fits into a window comes out as from the whole network.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kernels.measures import is_within
from kernels.tiles import Tile, add_tile, read_tile, tile_window, write_tile
from kernels.warp import warp
from kernels.workers import SINGLE, Workers
from runtime.closing import Closing
from runtime.engine.session import Backend, Session
from runtime.errors import ManifestError
from runtime.manifest import Model, Role
from runtime.video.fallback import TileRetry, blend_by_strength, is_valid, upscale_bicubic
from runtime.video.frames import EnhancedFrame, States, frames_to_states, states_to_frames
from runtime.video.motion import PreparedFrame
from runtime.video.tile_plan import Canvas

Frame = NDArray[np.float32]
_PARTS: Final[tuple[Role, ...]] = ("flow", "backward", "forward", "reconstruction")


class BidirectionalRunner(Closing):
    """Run the parts of a bidirectional network over frames of one size; a `runtime.video.frames.Runner`.

    Features have a border of one zero pixel: networks were trained with zeros outside the frame, and the kernel, which
    clamps positions to the canvas, then reads them.
    """

    def __init__(
        self, model: Model, backend: Backend, canvas: Canvas, *, strength: float, workers: Workers = SINGLE
    ) -> None:
        spec = model.manifest.video
        if spec is None:
            raise ManifestError(f"model {model.manifest.name} is not a video model")
        self._canvas, self._spec, self._strength, self._workers = canvas, spec, strength, workers
        roles = {file.role for file in model.manifest.files}
        self._parts: dict[str, Session] = {}
        with ExitStack() as stack:
            opened: tuple[Role, ...] = (*_PARTS, "clean") if "clean" in roles else _PARTS
            for role in opened:
                session = backend.open(model, role, {})
                self._parts[role] = stack.enter_context(session)
            shape = next(one.shape for one in self._parts["forward"].inputs if one.name == "warped")
            if shape[2:] != canvas.tile_shape:
                raise ManifestError(
                    f"the parts of model {model.manifest.name} take features {shape}, but its manifest says tiles of "
                    f"{canvas.tile_shape[1]}x{canvas.tile_shape[0]}; import the model again"
                )
            stack.pop_all()
        self._channels = shape[1]
        self.backend, self.precision = self._parts["forward"].backend, self._parts["forward"].precision
        self.reruns: list[TileRetry] = []
        self._held: list[PreparedFrame] = []
        self._cleaned: list[Frame] = []
        """What the network sees of the first of the held frames, (3, plane height, plane width) each."""
        self._carried: tuple[Frame, Frame] | None = None
        """The newest given frame as the network saw it, and its forward features."""

    def push(self, frame: PreparedFrame) -> Iterator[EnhancedFrame]:
        """Process the next frame; when a window is full, all of it but the overlap comes out."""
        if frame.flow is None:
            yield from self.flush()
        self._held.append(frame)
        if len(self._held) == self._spec.look_ahead + 1:
            yield from self._give(len(self._held) - self._spec.window_overlap)

    def flush(self) -> Iterator[EnhancedFrame]:
        """End the scene: yield every waiting frame."""
        yield from self._give(len(self._held))
        self._carried = None

    @property
    def states(self) -> States:
        """The frames that wait, those of them that are cleaned, and what goes on forwards."""
        states: States = {}
        if self._held:
            states = {**frames_to_states(self._held), "cleaned": np.array(self._cleaned, np.float32)}
        if self._carried is not None:
            states["seen"], states["forward"] = self._carried
        return states

    def begin_segment(self) -> None:
        """Do nothing: frames are processed from `states` alone."""

    def restore(self, states: States, reruns: Sequence[TileRetry]) -> None:
        """Go on with the frames and features of an earlier run."""
        self.reruns = list(reruns)
        if "frames" in states:
            self._held, self._cleaned = states_to_frames(states), list(states["cleaned"])
        if "forward" in states:
            self._carried = states["seen"], states["forward"]

    def close(self) -> None:
        """Close the engines' sessions."""
        for session in self._parts.values():
            session.close()

    def _give(self, count: int) -> Iterator[EnhancedFrame]:
        """Yield the first of the held frames: backwards through all of them, then forwards."""
        self._clean()
        backward = self._run_backward(count)
        for frame, seen in zip(self._held[:count], self._cleaned[:count], strict=True):
            self._carried = seen, self._advance("forward", frame.index, seen, self._carried)
            result = self._reconstruct(frame, seen, backward.pop(), self._carried[1])
            picture = blend_by_strength(self._canvas, frame.rgb, result, self._strength)
            yield EnhancedFrame(frame.index, frame.pts, frame.duration, picture)
        del self._held[:count], self._cleaned[:count]

    def _run_backward(self, count: int) -> list[Frame]:
        """Return the backward features of the first held frames, the last of these first."""
        kept: list[Frame] = []
        later: tuple[Frame, Frame] | None = None
        for place in reversed(range(len(self._held))):
            seen = self._cleaned[place]
            later = seen, self._advance("backward", self._held[place].index, seen, later)
            if place < count:
                kept.append(later[1])
        return kept

    def _clean(self) -> None:
        """Clean the frames that are not: all of them equally often, by the mean of what a pass changes."""
        new = self._held[len(self._cleaned) :]
        pictures = [frame.rgb for frame in new]
        for _ in range(self._spec.clean_passes if "clean" in self._parts and new else 0):
            made = [self._clean_one(frame.index, one) for frame, one in zip(new, pictures, strict=True)]
            is_enough = self._spec.clean_passes == 1 or _mean_change(pictures, made) * 255 < self._spec.clean_until
            pictures = made
            if is_enough:
                break
        self._cleaned += pictures

    def _clean_one(self, index: int, picture: Frame) -> Frame:
        cleaned = np.empty((3, self._canvas.height, self._canvas.width), np.float32)
        for number, tile in enumerate(self._canvas.tiles):
            seen = np.ascontiguousarray(read_tile(picture, tile, scale=self._canvas.grid))
            result = self._parts["clean"].run({"frame": seen[None]})["cleaned"][0]
            if not is_valid(result):
                self._note(index, number, cured=True)
                result = _shrink(seen, self._canvas.grid)
            write_tile(cleaned, tile, result)
        return cleaned

    def _advance(self, role: str, index: int, seen: Frame, neighbour: tuple[Frame, Frame] | None) -> Frame:
        """Return a frame's features in one direction from its neighbour's: (channels, height + 2, width + 2)."""
        canvas = self._canvas
        features = np.zeros((self._channels, canvas.height + 2, canvas.width + 2), np.float32)
        flow = None if neighbour is None else self._find_flow(seen, neighbour[0])
        for number, tile in enumerate(canvas.tiles):
            warped = np.zeros((self._channels, tile.height, tile.width), np.float32)
            if neighbour is not None and flow is not None:
                place = {"top": tile.top + 1, "left": tile.left + 1}
                warp(neighbour[1], read_tile(flow, tile), **place, out=warped, workers=self._workers)
            result = self._run_branch(role, seen, tile, warped)
            if not is_within(result):
                result = self._run_branch(role, seen, tile, np.zeros_like(warped))
                cured = is_within(result)
                self._note(index, number, cured=cured)
                if not cured:
                    result = np.zeros_like(warped)
            write_tile(features[:, 1:-1, 1:-1], tile, result)
        return features

    def _run_branch(self, role: str, seen: Frame, tile: Tile, warped: Frame) -> Frame:
        frame = np.ascontiguousarray(read_tile(seen, tile))[None]
        result: Frame = self._parts[role].run({"frame": frame, "warped": warped[None]})["features"][0]
        return result

    def _find_flow(self, seen: Frame, other: Frame) -> Frame:
        """Find where each pixel of a frame lies in another one; tiles are blended, for flow looks far."""
        canvas = self._canvas
        total = np.zeros((2, canvas.height, canvas.width), np.float32)
        weight = np.zeros((canvas.height, canvas.width), np.float32)
        for tile in canvas.tiles:
            pair = [np.ascontiguousarray(read_tile(one, tile))[None] for one in (seen, other)]
            flow = self._parts["flow"].run({"reference": pair[0], "other": pair[1]})["flow"][0]
            if not is_within(flow):  # the kernel cannot read at a position that is no number
                flow = np.zeros_like(flow)
            fade = tile_window(tile, canvas.height, canvas.width, overlap=2 * canvas.halo)
            add_tile(total, weight, tile, flow, fade)
        total /= weight
        return total

    def _reconstruct(self, frame: PreparedFrame, seen: Frame, backward: Frame, forward: Frame) -> Frame:
        canvas, factor = self._canvas, self._canvas.scale * self._canvas.grid
        picture = np.empty((3, canvas.height * factor, canvas.width * factor), np.float32)
        for number, tile in enumerate(canvas.tiles):
            original = np.ascontiguousarray(read_tile(frame.rgb, tile, scale=canvas.grid))
            # Where the plane is smaller than the frame, detail is added to the frame as it came.
            base = original if canvas.grid > 1 else np.ascontiguousarray(read_tile(seen, tile))
            inner = [np.ascontiguousarray(read_tile(one[:, 1:-1, 1:-1], tile))[None] for one in (backward, forward)]
            tensors = {"backward": inner[0], "forward": inner[1], "frame": base[None]}
            result = self._parts["reconstruction"].run(tensors)["output"][0]
            if not is_valid(result):
                self._note(frame.index, number, cured=False)
                result = upscale_bicubic(original, canvas.scale)
            write_tile(picture, tile, result, scale=factor)
        return picture

    def _note(self, index: int, number: int, *, cured: bool) -> None:
        rerun = TileRetry(index, number, cured)
        if rerun not in self.reruns:
            self.reruns.append(rerun)


def _mean_change(before: Sequence[Frame], after: Sequence[Frame]) -> float:
    return float(np.mean([np.abs(one - other).mean() for one, other in zip(before, after, strict=True)]))


def _shrink(frame: Frame, factor: int) -> Frame:
    """Return the means of squares: what stands in for a cleaned frame that is none."""
    frame = np.nan_to_num(frame, nan=0.5, posinf=1.0, neginf=0.0)
    height, width = frame.shape[1] // factor, frame.shape[2] // factor
    shrunk: Frame = frame.reshape(3, height, factor, width, factor).mean((2, 4), dtype=np.float32)
    return shrunk
