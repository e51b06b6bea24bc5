"""The interface of model runners, whether a network takes a frame, a window of frames, or works in parts.

Frames are pushed in order and come out in order, each once; a network that looks ahead gives them later. So the state
before a frame is all that the frames from there on, and those that still wait, need of the ones before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.video.fallback import TileRetry
from runtime.video.motion import PreparedFrame

Frame = NDArray[np.float32]
States = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class EnhancedFrame:
    """A finished frame with the times that it came with.

    rgb: (3, scale height, scale width) float32, not clamped; the next `push` may overwrite it.
    kept_tiles: Tiles that stand still and show their earlier result.
    """

    index: int
    pts: int
    duration: int
    rgb: Frame
    kept_tiles: int = 0


class Runner(Protocol):
    """A network over the frames of one clip; called from one thread, closed at the end."""

    backend: str
    precision: str
    reruns: list[TileRetry]

    @property
    def states(self) -> States:
        """All that is needed to go on after the newest frame; the next push may change the arrays."""
        ...

    def restore(self, states: States, reruns: Sequence[TileRetry]) -> None:
        """Go on with an earlier run's `states`; frames that waited in it come out again."""
        ...

    def begin_segment(self) -> None:
        """Process the next frame from `states` alone, as after `restore`."""
        ...

    def push(self, frame: PreparedFrame) -> Iterator[EnhancedFrame]:
        """Process the next frame and yield those that are finished by it; a frame without flow begins a scene.

        The iterator must be used up before anything else is asked of the step.
        """
        ...

    def flush(self) -> Iterator[EnhancedFrame]:
        """Return the frames that wait for others, for none will come."""
        ...

    def close(self) -> None:
        """Close the engines."""
        ...


def place_states(channels: Mapping[str, int]) -> dict[str, slice]:
    """Return where each state's channels lie on a canvas that holds all of them, by the states' names."""
    places: dict[str, slice] = {}
    first = 0
    for name, count in channels.items():
        places[name] = slice(first, first + count)
        first += count
    return places


def frames_to_states(frames: Sequence[PreparedFrame]) -> States:
    """Return frames as arrays; which of them began a scene is not kept, for they are beyond it."""
    return {
        "frames": np.stack([frame.rgb for frame in frames]),
        "times": np.array([(frame.index, frame.pts, frame.duration) for frame in frames], np.int64),
    }


def states_to_frames(states: States) -> list[PreparedFrame]:
    """Read what `frames_to_states` gave."""
    return [
        PreparedFrame(int(index), int(pts), int(duration), rgb, None)
        for (index, pts, duration), rgb in zip(states["times"], states["frames"], strict=True)
    ]
