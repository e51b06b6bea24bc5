"""Frames that wait for later ones, as arrays that a segment's state can hold."""

from collections.abc import Sequence

import numpy as np

from runtime.video.step import States
from runtime.video.window import WindowedFrame


def frames_to_states(frames: Sequence[WindowedFrame]) -> States:
    """Give frames as arrays; which of them began a scene is not kept, for they are beyond it."""
    return {
        "frames": np.stack([frame.rgb for frame in frames]),
        "times": np.array([(frame.index, frame.pts, frame.duration) for frame in frames], np.int64),
    }


def states_to_frames(states: States) -> list[WindowedFrame]:
    """Read what `frames_to_states` gave."""
    return [
        WindowedFrame(int(index), int(pts), int(duration), rgb, None)
        for (index, pts, duration), rgb in zip(states["times"], states["frames"], strict=True)
    ]
