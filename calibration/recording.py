"""A session that keeps what it is given: the tensors are taken where the engine gets them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.session import Array, Session
from runtime.manifest import Model, Role

Tensors = dict[str, NDArray[np.float32]]


class RecordingBackend:
    """Opens float32 sessions on the CPU and appends the inputs of one role's session to `calls`."""

    def __init__(self, calls: list[Tensors], recorded: Role) -> None:
        self._calls, self._recorded = calls, recorded

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session; see `runtime.engine.session.Backend`."""
        calls = self._calls

        class Recording(OnnxRuntimeCpuSession):
            def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
                calls.append({name: np.array(value) for name, value in tensors.items()})
                return super().run(tensors)

        opened = Recording if role == self._recorded else OnnxRuntimeCpuSession
        return opened(model.file(role=role), dimensions=shape, precision="fp32", threads=2)
