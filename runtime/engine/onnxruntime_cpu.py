"""ONNX Runtime on the CPU: the engine that every box has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtime.closing import Closing
from runtime.engine.session import Array, Binding
from runtime.errors import SessionError

_MULTIPLES = (2, 4, 8)
"""An output or a frame may have sides that are a multiple of a named dimension: `4*height`."""
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OnnxRuntimeCpuSession(Closing):
    """A network in ONNX Runtime's CPU provider."""

    backend = "onnxruntime-cpu"

    def __init__(self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning pool would take the cores that decode and encode need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # States that fade through silence or black would otherwise reach denormals, which processors add up slowly.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        for name, size in dimensions.items():
            options.add_free_dimension_override_by_name(name, size)
            for multiple in _MULTIPLES:
                options.add_free_dimension_override_by_name(f"{multiple}*{name}", multiple * size)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime cannot open {path}: {error}") from error
        self.precision = precision
        self.inputs = tuple(_binding(entry, path) for entry in self._session.get_inputs())
        self.outputs = tuple(_binding(entry, path) for entry in self._session.get_outputs())
        self._names = [binding.name for binding in self.outputs]

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once; see `Session.run`."""
        check_tensors(self.inputs, tensors)
        try:
            results = self._session.run(self._names, dict(tensors))
        except Exception as error:
            raise SessionError(f"ONNX Runtime failed while running: {error}") from error
        return dict(zip(self._names, results, strict=True))

    def close(self) -> None:
        """Release the session's memory."""
        self._session = None


def check_tensors(bindings: tuple[Binding, ...], tensors: Mapping[str, Array]) -> None:
    """Check arrays against a session's inputs by name, dtype and shape.

    Raises:
        SessionError: What was given and what was expected.
    """
    expected = {binding.name for binding in bindings}
    if tensors.keys() != expected:
        raise SessionError(f"got inputs {sorted(tensors)}, expected {sorted(expected)}")
    for binding in bindings:
        array = tensors[binding.name]
        if array.dtype != binding.dtype or array.shape != binding.shape:
            raise SessionError(
                f"input {binding.name} is {array.dtype} {array.shape}, expected {binding.dtype} {binding.shape}"
            )


def _binding(entry: Any, path: Path) -> Binding:
    if any(not isinstance(size, int) for size in entry.shape):
        raise SessionError(f"{path} leaves {entry.name} {entry.shape} open; give every named dimension a size")
    return Binding(entry.name, np.dtype(_DTYPES[entry.type]), tuple(entry.shape))
