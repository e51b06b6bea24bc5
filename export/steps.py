"""Running BasicVSR's step engines over a clip, with our flow-warp kernel between them: the proof that they are whole.

The order of work is that of a host which cannot hold the clip: backwards once, keeping features, then forwards, giving
a frame at a time.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kernels.warp import warp
from runtime.engine.session import Session

Frames = NDArray[np.float32]


def run_steps(sessions: Mapping[str, Session], frames: Frames, *, same_size: bool = False) -> Frames:
    """Restore a clip step by step.

    Args:
        sessions: `flow`, `backward`, `forward`, `reconstruction`, and `clean` where the network has one.
        frames: (frames, 3, height, width) float32.
        same_size: The reconstruction adds to the frame as it came, not as it was cleaned.

    Returns:
        (frames, 3, scale height, scale width) float32.
    """
    seen = [frame[None] for frame in frames]
    if "clean" in sessions:
        seen = [sessions["clean"].run({"frame": frame})["cleaned"] for frame in seen]
    kept: list[Frames] = []
    carried = _nothing(sessions["backward"])
    for index in reversed(range(len(seen))):
        if index < len(seen) - 1:
            flow = sessions["flow"].run({"reference": seen[index], "other": seen[index + 1]})["flow"]
            carried = warp_with_zeros(carried, flow)
        carried = sessions["backward"].run({"frame": seen[index], "warped": carried})["features"]
        kept.insert(0, carried)
    carried = _nothing(sessions["forward"])
    results = []
    for index, frame in enumerate(seen):
        if index > 0:
            flow = sessions["flow"].run({"reference": frame, "other": seen[index - 1]})["flow"]
            carried = warp_with_zeros(carried, flow)
        carried = sessions["forward"].run({"frame": frame, "warped": carried})["features"]
        base = frames[index][None] if same_size else frame
        made = sessions["reconstruction"].run({"backward": kept[index], "forward": carried, "frame": base})
        results.append(made["output"][0])
    return np.stack(results)


def warp_with_zeros(features: Frames, flow: Frames) -> Frames:
    """Warp as the network was trained: what lies outside is zero, where the kernel alone repeats the border.

    A border of one zero pixel makes the kernel's clamped positions read zeros.
    """
    canvas = np.pad(features[0], ((0, 0), (1, 1), (1, 1)))
    return warp(canvas, np.ascontiguousarray(flow[0]), top=1, left=1)[None]


def _nothing(session: Session) -> Frames:
    shape = next(binding.shape for binding in session.inputs if binding.name == "warped")
    return np.zeros(shape, np.float32)
