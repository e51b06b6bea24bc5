"""Recurrent networks whose frames stay on the GPU: planes go up once and come down once, with one wait a frame.

Two frames are in flight: while the host waits for the older one and copies the planes of the next, the GPU computes the
newer one. Uploads, work and downloads have a stream each, ordered by events.
"""

import logging
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.colour import Planes, YuvLayout
from kernels.errors import KernelError
from runtime.closing import Closing
from runtime.engine.device_memory import release_pools
from runtime.engine.session import Session, get_device_tensors
from runtime.errors import SessionError
from runtime.manifest import Model
from runtime.media.pixel_formats import YuvFrame
from runtime.video.device_frames import SLOTS, FrameWork, Slot
from runtime.video.fallback import TileRetry
from runtime.video.frames import States, place_states
from runtime.video.tile_plan import Canvas

logger = logging.getLogger(__name__)

Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ResidentFrame:
    """A finished frame, in its own memory.

    begins_scene: Whether its states were reset.
    rgb: (3, scale height, scale width) float32, not clamped, if requested.
    """

    index: int
    pts: int
    duration: int
    planes: Planes
    begins_scene: bool
    rgb: Frame | None


@dataclass(slots=True)
class _InFlight:
    """A frame whose work is enqueued; `is_first` where there is none before it."""

    index: int
    pts: int
    duration: int
    is_first: bool
    wants_rgb: bool
    rgb: Frame | None = None


class ResidentRunner(Closing):
    """Run a step engine over frames of one size, as `RecurrentRunner`, from planes to planes on the GPU.

    Frames come in order, from one thread; each comes out when the one after it was taken, or by `flush`. A tile whose
    result or state is not finite is found when its frame has arrived: the frame is computed again from the state before
    it, the tile from a clean state and then by bicubic upscaling, and so is the frame after it.

    Args:
        model: A recurrent model.
        session: Its step engine, which is closed with the runner; it must offer its tensors.
        canvas: The tiles.
        strength: Of the enhancement.
        layout_in: Of the planes that come.
        layout_out: Of the planes that are returned.

    Raises:
        KernelError: The kernels cannot be compiled, or do not fit the engine's tensors.
        SessionError: The GPU has not enough memory.
    """

    def __init__(
        self,
        model: Model,
        session: Session,
        canvas: Canvas,
        *,
        strength: float,
        layout_in: YuvLayout,
        layout_out: YuvLayout,
    ) -> None:
        import cupy

        tensors = get_device_tensors(session)
        assert tensors is not None
        self._cupy, self._session, self._canvas = cupy, session, canvas
        self._upload, self._compute, self._download = (cupy.cuda.Stream(non_blocking=True) for _ in range(3))
        with _gpu_errors(), self._compute:
            tensors.inputs["strength"].fill(strength)
            self._work: FrameWork | None = FrameWork(
                model, tensors, canvas, self._compute, layout_in=layout_in, layout_out=layout_out
            )
            self._compute.synchronize()
        states = model.manifest.states
        self._channels = place_states({state.input: tensors.inputs[state.input].shape[1] for state in states})
        self._in_flight: deque[_InFlight] = deque()
        self._begins_scene = True
        """The next frame does, for there is none before it."""
        self._newest: _InFlight | None = None
        """The newest frame that was returned."""
        self.count = 0
        """Frames taken so far; the index of the next."""
        self.backend, self.precision = session.backend, session.precision
        self.reruns: list[TileRetry] = []
        self.scene_cuts: list[int] = []
        """Indices of the returned frames that begin a new scene; the clip's first is not among them."""

    def push(self, frame: YuvFrame, *, wants_rgb: bool = False) -> Iterator[ResidentFrame]:
        """Accept the next frame and yield the one before it; the iterator must be exhausted before any other call."""
        with _gpu_errors():
            self._start(frame, wants_rgb=wants_rgb)
        if len(self._in_flight) == SLOTS - 1:
            yield self._finish()

    def flush(self) -> Iterator[ResidentFrame]:
        """Yield the frames in flight."""
        while self._in_flight:
            yield self._finish()

    def state_before(self) -> tuple[Frame | None, States]:
        """Return the luma and the states, float32, from which the newest returned frame started.

        No luma where there is no frame before it. Only until the next `push`, for its buffers are used again.
        """
        assert self._newest is not None
        slot, stream = self._slot(self._newest.index - 1), self._download
        with _gpu_errors():
            luma = None if self._newest.is_first else slot.luma.get(stream=stream)
            state = slot.state.get(stream=stream).astype(np.float32)
        return luma, {name: state[part] for name, part in self._channels.items()}

    def restore(
        self,
        count: int,
        previous: Frame | None,
        states: States,
        *,
        scene_cuts: Sequence[int] = (),
        reruns: Sequence[TileRetry] = (),
    ) -> None:
        """Go on after `count` frames of an earlier run: with their last luma, which None begins a scene, and states."""
        self.count, self._begins_scene = count, previous is None
        self.scene_cuts, self.reruns = list(scene_cuts), list(reruns)
        slot = self._slot(count - 1)
        with _gpu_errors():
            if previous is not None:
                slot.luma.set(np.ascontiguousarray(previous), stream=self._compute)
            if states:
                state = np.concatenate([states[name] for name in self._channels])
                slot.state.set(state.astype(slot.state.dtype), stream=self._compute)
            self._compute.synchronize()

    def close(self) -> None:
        """Wait for the GPU, release all memory on it, and close the engine."""
        if self._work is not None:
            try:
                self._wait_for_all()
            except RuntimeError as error:
                logger.warning("the GPU failed before it was closed: %s", error)
            self._work = None
            self._in_flight.clear()
        self._session.close()
        release_pools(self._cupy)

    def _start(self, frame: YuvFrame, *, wants_rgb: bool) -> None:
        """Enqueue the upload of a frame and its work."""
        index, slot = self.count, self._slot(self.count)
        for host, plane in zip(slot.given.on_host, frame.planes, strict=True):
            np.copyto(host, plane)
        slot.given.device.set(slot.given.host, stream=self._upload)
        slot.uploaded.record(self._upload)
        self._compute.wait_event(slot.uploaded)
        new = _InFlight(index, frame.pts, frame.duration, self._begins_scene, wants_rgb)
        self.count, self._begins_scene = index + 1, False
        self._in_flight.append(new)
        self._enqueue(new)

    def _enqueue(self, frame: _InFlight, *, clean: Collection[int] = (), replaced: Collection[int] = ()) -> None:
        """Enqueue the work of a frame whose planes are on the GPU, and the download of its result."""
        assert self._work is not None
        slot = self._slot(frame.index)
        with self._compute:
            self._work.compute(frame.index, is_first=frame.is_first, clean=clean, replaced=replaced)
            if frame.wants_rgb:
                frame.rgb = self._work.result.get(stream=self._compute)
        slot.computed.record(self._compute)
        self._download.wait_event(slot.computed)
        slot.made.device.get(stream=self._download, out=slot.made.host, blocking=False)
        slot.status.get(stream=self._download, out=slot.host_status, blocking=False)
        slot.arrived.record(self._download)

    def _finish(self) -> ResidentFrame:
        """Wait for the oldest frame in flight, and return it."""
        frame = self._in_flight[0]
        slot = self._slot(frame.index)
        with _gpu_errors():
            slot.arrived.synchronize()
            if slot.failed:
                self._run_again(frame, slot)
        begins_scene = bool(slot.host_status[0])
        if begins_scene and not frame.is_first:
            self.scene_cuts.append(frame.index)
        self._newest = self._in_flight.popleft()
        y, u, v = (plane.copy() for plane in slot.made.on_host)
        return ResidentFrame(frame.index, frame.pts, frame.duration, (y, u, v), begins_scene, frame.rgb)

    def _run_again(self, frame: _InFlight, slot: Slot) -> None:
        """Compute a frame of which tiles failed again, and then those after it, which started from its state."""
        self._wait_for_all()
        failed = slot.failed
        self._enqueue(frame, clean=failed)
        slot.arrived.synchronize()
        uncured = [number for number in slot.failed if number in failed]
        if uncured:
            self._enqueue(frame, clean=failed, replaced=uncured)
            slot.arrived.synchronize()
        self.reruns += [TileRetry(frame.index, number, number not in uncured) for number in failed]
        for later in list(self._in_flight)[1:]:
            self._enqueue(later)

    def _wait_for_all(self) -> None:
        for stream in (self._upload, self._compute, self._download):
            stream.synchronize()

    def _slot(self, index: int) -> Slot:
        assert self._work is not None, "the runner is closed"
        return self._work.slots[index % SLOTS]


def open_resident(
    model: Model, session: Session, canvas: Canvas, *, strength: float, layout_in: YuvLayout, layout_out: YuvLayout
) -> ResidentRunner | None:
    """Open a runner whose frames stay on the GPU; None where the session, the kernels or the memory do not allow it.

    Then the session stays open, and its tiles can be copied up and down one by one.
    """
    if get_device_tensors(session) is None:
        return None
    try:
        return ResidentRunner(model, session, canvas, strength=strength, layout_in=layout_in, layout_out=layout_out)
    except (KernelError, SessionError) as error:
        reason = str(error)  # the error itself refers to the frames of the stack, and they to the memory
    logger.warning("every tile is copied to the GPU and back, which is slower: %s", reason)
    import cupy

    release_pools(cupy)
    return None


@contextmanager
def _gpu_errors() -> Generator[None]:
    """Turn an error of the driver or of CuPy into a `SessionError`."""
    try:
        yield
    except (KernelError, SessionError):
        raise
    except (RuntimeError, MemoryError) as error:
        raise SessionError(f"the GPU failed: {error}") from error
