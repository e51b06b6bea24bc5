"""An ONNX file as ONNX Runtime reads it: its named dimensions given sizes, its tensors by name, dtype and shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.engine.session import Binding
from runtime.errors import SessionError

_MULTIPLES: Final = (2, 4, 8)
"""An output or a frame may have sides that are a multiple of a named dimension: `4*height`."""
_DTYPES: Final = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


def fix_dimensions(options: Any, dimensions: Mapping[str, int]) -> None:
    """Give every named dimension its size in ONNX Runtime's session options, which are changed in place."""
    for name, size in dimensions.items():
        options.add_free_dimension_override_by_name(name, size)
        for multiple in _MULTIPLES:
            options.add_free_dimension_override_by_name(f"{multiple}*{name}", multiple * size)


def read_bindings(entries: list[Any], path: Path) -> tuple[Binding, ...]:
    """Give the inputs or outputs of an ONNX Runtime session on a file.

    Raises:
        SessionError: A dimension was left open, or a tensor has a dtype that no session takes.
    """
    return tuple(_binding(entry, path) for entry in entries)


def read_inputs(path: Path, dimensions: Mapping[str, int]) -> tuple[Binding, ...]:
    """Read the inputs of a file at given sizes, for runtimes that do not keep the names of its dimensions.

    Raises:
        SessionError: The file cannot be read, or leaves a dimension open.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    fix_dimensions(options, dimensions)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public root
        raise SessionError(f"{path} cannot be read as a model: {error}") from error
    return read_bindings(session.get_inputs(), path)


def _binding(entry: Any, path: Path) -> Binding:
    if any(not isinstance(size, int) for size in entry.shape):
        raise SessionError(f"{path} leaves {entry.name} {entry.shape} open; give every named dimension a size")
    if entry.type not in _DTYPES:
        raise SessionError(f"{path} has {entry.name} as {entry.type}, expected one of {', '.join(_DTYPES)}")
    return Binding(entry.name, np.dtype(_DTYPES[entry.type]), tuple(entry.shape))
