"""A short run of a model on this box, to say how fast it is here."""

import time
from dataclasses import dataclass
from typing import Final

from runtime.errors import EngineError
from runtime.manifest import Model

_BUDGET_S: Final = 1.0
_MOST_RUNS: Final = 50
_USUAL_PIXELS: Final = 320 * 180


@dataclass(frozen=True, slots=True)
class Trial:
    """The engine alone, on one tile; `problem` is empty when it ran."""

    model: str
    backend: str
    precision: str
    tile_height: int
    tile_width: int
    runs: int
    ms_per_tile: float
    problem: str = ""


def try_model(model: Model, *, threads: int) -> Trial:
    """Run a video model for about a second on noise, at the tile shape nearest to 320x180."""
    import numpy as np

    from runtime.engine.backends import choose_backend

    manifest = model.manifest
    assert manifest.video is not None
    height, width = min(manifest.video.tile_shapes, key=lambda shape: abs(shape[0] * shape[1] - _USUAL_PIXELS))
    try:
        backend = choose_backend("auto", threads=threads)
        dimensions = {"batch": 1, "height": height, "width": width}
        with backend.open_session(model.file(), dimensions=dimensions, precision="fp32") as session:
            random = np.random.default_rng(0)
            tensors = {entry.name: random.random(entry.shape).astype(entry.dtype) for entry in session.inputs}
            session.run(tensors)
            runs, started = 0, time.perf_counter()
            while runs < _MOST_RUNS and time.perf_counter() - started < _BUDGET_S:
                session.run(tensors)
                runs += 1
            elapsed_ms = (time.perf_counter() - started) * 1000
    except EngineError as error:
        return Trial(manifest.name, "", "fp32", height, width, 0, 0.0, problem=str(error))
    return Trial(manifest.name, session.backend, session.precision, height, width, runs, elapsed_ms / runs)
