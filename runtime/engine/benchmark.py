"""The benchmark of a model on this machine, on every backend and in every precision."""

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from runtime.engine.backends import BackendInfo, list_backends
from runtime.engine.choose import ModelBackend, candidates_for
from runtime.engine.device import EngineType
from runtime.engine.session import Array, Session
from runtime.engine.speeds import Speed, describe_device, digest_files, is_current, read_speeds
from runtime.errors import EngineError, OpenError
from runtime.hardware import Hardware, detect_hardware
from runtime.manifest import Model

BUDGET_S: Final = 1.0
"""For each backend and precision."""
_MIN_RUNS: Final = 3
_MAX_RUNS: Final = 50
_USUAL_PIXELS: Final = 320 * 180


_TWICE: Final = ("flow",)
"""Parts that a frame needs twice: its motion towards the previous and the next frame."""


class Candidate:
    """A backend and precision for a model: the session of each of its files, and the times of the runs."""

    def __init__(self, backend: BackendInfo, precision: str) -> None:
        self.backend, self.precision = backend, precision
        self.times_s: list[float] = []
        self.problem, self.waits = "", False
        self._parts: list[tuple[Session, dict[str, Array]]] = []

    def open(self, backend: ModelBackend, model: Model, shape: dict[str, int], stack: ExitStack) -> None:
        """Open a session for each role, to be closed by `stack`, and generate its inputs."""
        random = np.random.default_rng(0)
        for role in dict.fromkeys(file.role for file in model.manifest.files):
            session = stack.enter_context(backend.open(model, role, shape))
            tensors = {one.name: random.random(one.shape).astype(one.dtype) for one in session.inputs}
            self._parts += [(session, tensors)] * (2 if role in _TWICE else 1)

    def run(self) -> None:
        """Run everything that a frame needs once and record the time."""
        started = time.perf_counter()
        for session, tensors in self._parts:
            session.run(tensors)
        self.times_s.append(time.perf_counter() - started)


def measure_model(model: Model, *, engines: Path | None = None, budget_s: float = BUDGET_S) -> tuple[Speed, ...]:
    """Run a model on noise on every backend and in every precision, the default one first.

    The runs are interleaved, so that other load affects all alike. A video model has every core, at the tile shape
    nearest to 320x180; a speech model has one, as in a job. Of a model in parts, one run is all that a frame needs,
    for windows of frames that do not overlap.

    Args:
        model: Any model of the zoo.
        engines: The folder of the engine store.
        budget_s: For each backend and precision; a slow one gets three runs at least.
    """
    hardware = detect_hardware()
    threads = len(os.sched_getaffinity(0)) if model.manifest.video else 1
    shape, size = _usual_size(model)
    available = [backend for backend in list_backends() if backend.available]
    candidates = [Candidate(*pair) for pair in candidates_for(model, available)]
    with ExitStack() as stack:
        for one in candidates:
            # OpenVINO is just as fast without an engine, so none is requested that may never be used.
            store = None if one.backend.engine_type is EngineType.OPENVINO else engines
            try:
                one.open(ModelBackend(one.backend, one.precision, threads, store), model, shape, stack)
            except EngineError as error:
                one.problem, one.waits = str(error), isinstance(error, OpenError) and error.waits
        run_interleaved([one for one in candidates if not one.problem], budget_s)
    return tuple(_speed(one, model, hardware, threads=threads, size=size) for one in candidates)


def list_unmeasured(models: Sequence[Model], engines: Path) -> list[Model]:
    """Return the models with a backend not yet measured on this machine with the current files and libraries."""
    hardware, speeds = detect_hardware(), read_speeds(engines)
    available = [backend for backend in list_backends() if backend.available]

    def is_measured(model: Model, backend: BackendInfo, precision: str) -> bool:
        return any(speed.precision == precision and is_current(speed, model, backend, hardware) for speed in speeds)

    return [
        model for model in models if not all(is_measured(model, *pair) for pair in candidates_for(model, available))
    ]


def run_interleaved(candidates: list[Candidate], budget_s: float) -> None:
    """Run all of them in turn until the time is up; the first run of each is a warm-up and does not count."""
    ends = time.perf_counter() + budget_s * len(candidates)
    for turn in range(1 + _MAX_RUNS):
        if turn > _MIN_RUNS and time.perf_counter() > ends:
            return
        for one in candidates:
            if one.problem:
                continue
            try:
                one.run()
            except EngineError as error:
                one.problem = str(error)
            if turn == 0:
                one.times_s.clear()


def _speed(one: Candidate, model: Model, hardware: Hardware, *, threads: int, size: str) -> Speed:
    return Speed(
        model=model.manifest.name,
        sha256=digest_files(model, one.precision, one.backend.quant_scheme),
        backend=one.backend.name,
        precision=one.precision,
        library=one.backend.library_version,
        device=describe_device(hardware, one.backend),
        threads=threads,
        size=size,
        runs=0 if one.problem else len(one.times_s),
        ms=0.0 if one.problem else round(1000 * statistics.median(one.times_s), 3),
        measured=datetime.now(UTC).date().isoformat(),
        problem=one.problem,
        waits=one.waits,
    )


def _usual_size(model: Model) -> tuple[dict[str, int], str]:
    """Return the sizes at which a model is measured, and their label."""
    video, audio = model.manifest.video, model.manifest.audio
    if video is None:
        samples = audio.block_samples if audio is not None else 1
        return {"samples": samples}, f"{samples} samples"
    shapes = sorted(video.tile_shapes, key=lambda shape: abs(shape[0] * shape[1] - _USUAL_PIXELS / video.grid**2))
    height, width = shapes[0]
    return {"batch": 1, "height": height, "width": width}, f"{width}x{height}"
