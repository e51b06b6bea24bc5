"""Sessions of ONNX Runtime, on the CPU and on a GPU."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.closing import Closing
from runtime.engine.session import Array, Binding, check_tensors, prepare_outputs
from runtime.errors import SessionError

_MULTIPLES: Final = (2, 4, 8)
"""An output or a frame may have sides that are a multiple of a named dimension: `4*height`."""
_DTYPES: Final = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OnnxRuntimeSession(Closing):
    """A file that ONNX Runtime has opened on one of its providers.

    Args:
        session: ONNX Runtime's own.
        path: The file, for messages.
        precision: Of the file.
        place: Where it runs, as messages name it: empty or ` on the GPU`.
    """

    def __init__(self, session: Any, path: Path, *, precision: str, place: str = "") -> None:
        self._session, self._place = session, place
        self.precision = precision
        self.inputs = read_bindings(session.get_inputs(), path)
        self.outputs = read_bindings(session.get_outputs(), path)
        self._binding = session.io_binding()
        self._bound: dict[tuple[str, str], Array] = {}
        """The arrays that the binding reads and writes, by kind and name."""

    def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run the network once; see `Session.run`."""
        check_tensors(self.inputs, tensors)
        results = prepare_outputs(self.outputs, out)
        try:
            for one in self.inputs:
                self._bind("input", one, np.ascontiguousarray(tensors[one.name]))
            for one in self.outputs:
                self._bind("output", one, results[one.name])
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime failed while running{self._place}: {error}") from error
        return results

    def close(self) -> None:
        """Release the session's memory."""
        self._session = self._binding = None
        self._bound.clear()

    def _bind(self, kind: str, one: Binding, array: Array) -> None:
        """Have the session use the caller's own memory: without that it would copy each result once more."""
        if self._bound.get((kind, one.name)) is array:
            return
        bind = self._binding.bind_input if kind == "input" else self._binding.bind_output
        bind(one.name, "cpu", 0, one.dtype.type, one.shape, array.ctypes.data)
        self._bound[kind, one.name] = array


def load_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry disabled; nothing else may import it.

    Since 1.32 its Linux wheel keeps a device id and a queue of events in the user's cache folder, and sends them to
    Microsoft now and then. The variable must be set before the import: `disable_telemetry_events` alone still leaves
    both files.

    Raises:
        SessionError: It is not installed.
    """
    if find_spec("onnxruntime") is None:
        raise SessionError("ONNX Runtime is not installed; pip install 'relume[cpu]', or 'relume[cuda]' for a GPU")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: TID251

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def fix_dimensions(options: Any, dimensions: Mapping[str, int]) -> None:
    """Fix the size of every named dimension in ONNX Runtime's session options, in place."""
    for name, size in dimensions.items():
        options.add_free_dimension_override_by_name(name, size)
        for multiple in _MULTIPLES:
            options.add_free_dimension_override_by_name(f"{multiple}*{name}", multiple * size)


def read_bindings(entries: list[Any], path: Path) -> tuple[Binding, ...]:
    """Return the inputs or outputs of an ONNX Runtime session on a file.

    Raises:
        SessionError: A dimension was left open, or a tensor has a dtype that no session takes.
    """
    return tuple(_binding(entry, path) for entry in entries)


def read_inputs(path: Path, dimensions: Mapping[str, int]) -> tuple[Binding, ...]:
    """Read the inputs of a file at given sizes, for runtimes that drop the names of its dimensions.

    Raises:
        SessionError: The file cannot be read, or leaves a dimension open.
    """
    onnxruntime = load_onnxruntime()
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
        raise SessionError(f"{path} has an open dimension in {entry.name} {entry.shape}; set the size of all of them")
    if entry.type not in _DTYPES:
        raise SessionError(f"{path} has {entry.name} as {entry.type}, expected one of {', '.join(_DTYPES)}")
    return Binding(entry.name, np.dtype(_DTYPES[entry.type]), tuple(entry.shape))


class OnnxRuntimeCpuSession(OnnxRuntimeSession):
    """A network in ONNX Runtime's CPU provider."""

    backend = "onnxruntime-cpu"

    def __init__(self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int) -> None:
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning pool would occupy the cores that decoding and encoding need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # States that fade through silence or black would otherwise reach denormals, which are slow to compute with.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        fix_dimensions(options, dimensions)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime cannot open {path}: {error}") from error
        super().__init__(session, path, precision=precision)


CUDA_PROVIDER: Final = "CUDAExecutionProvider"
_REMEDY: Final = (
    "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'relume[cuda]', with a driver for its CUDA"
)
# TF32 keeps ten bits of mantissa: not the result that the model's manifest was measured with. An exhaustive search
# picks another algorithm whenever timings differ, so a job that resumes after a crash would produce different bytes.
_CUDA_OPTIONS: Final = {"use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}


class OnnxRuntimeGpuSession(OnnxRuntimeSession):
    """A network in ONNX Runtime's CUDA provider; arrays are copied to the device and back by each run.

    Raises:
        SessionError: The provider cannot be used here, or the file cannot be opened.
    """

    backend = "onnxruntime-cuda"

    def __init__(self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int) -> None:
        onnxruntime = load_onnxruntime()
        if CUDA_PROVIDER not in onnxruntime.get_available_providers():
            raise SessionError(f"this ONNX Runtime was built without {CUDA_PROVIDER}; {_REMEDY}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        fix_dimensions(options, dimensions)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=[(CUDA_PROVIDER, _CUDA_OPTIONS)])
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime cannot open {path} on the GPU: {error}") from error
        # A provider that fails to start is only a warning in ONNX Runtime, which then runs on the CPU.
        used = session.get_providers()
        if not used or used[0] != CUDA_PROVIDER:
            raise SessionError(f"ONNX Runtime used {', '.join(used)} instead of {CUDA_PROVIDER}; {_REMEDY}")
        super().__init__(session, path, precision=precision, place=" on the GPU")
