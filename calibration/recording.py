"""A session that keeps what it is given: the tensors are taken where the engine gets them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.session import Array, Session

Tensors = dict[str, NDArray[np.float32]]


class RecordingOpener:
    """Opens float32 sessions on the CPU; what one file's session is given is appended to `calls`."""

    def __init__(self, calls: list[Tensors], recorded: Path) -> None:
        self._calls, self._recorded = calls, recorded

    def __call__(self, path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        """Open a session; see `runtime.engine.session.OpenSession`."""
        calls = self._calls

        class Recording(OnnxRuntimeCpuSession):
            def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
                calls.append({name: np.array(value) for name, value in tensors.items()})
                return super().run(tensors)

        opened = Recording if path == self._recorded else OnnxRuntimeCpuSession
        return opened(path, dimensions=dimensions, precision=precision, threads=2)
