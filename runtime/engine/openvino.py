"""Sessions of OpenVINO on an x86 processor, where INT8 is faster than float32.

A model is compiled from its ONNX file, or imported from a `.blob` that was compiled for this processor before.
"""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.closing import Closing
from runtime.engine.onnxruntime import read_inputs
from runtime.engine.session import Array, Binding, check_tensors, prepare_outputs
from runtime.errors import SessionError

BLOB: Final = ".blob"


class OpenVinoSession(Closing):
    """A network in OpenVINO's CPU plugin.

    Args:
        path: An ONNX file, which is compiled, or a `.blob` of `export_model`, whose sizes were fixed by its compiler.
        dimensions: The size of every named dimension of an ONNX file.
        precision: Of the file.
        threads: Of the processor; decoding and encoding have the rest.

    Raises:
        SessionError: OpenVINO is missing, or cannot open the file.
    """

    backend = "openvino-cpu"

    def __init__(self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int) -> None:
        if path.suffix == BLOB:
            compiled = _import_blob(path, threads=threads)
        else:
            compiled = compile_onnx(path, dimensions=dimensions, threads=threads)
        self._tensor = load_openvino().Tensor
        self._request = compiled.create_infer_request()
        self.precision = precision
        self.inputs = _bindings(compiled.inputs)
        self.outputs = _bindings(compiled.outputs)
        self._bound: dict[tuple[str, int], Array] = {}
        """The arrays that the request reads and writes, by kind and position."""

    def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run the network once; see `Session.run`."""
        check_tensors(self.inputs, tensors)
        results = prepare_outputs(self.outputs, out)
        try:
            for index, binding in enumerate(self.inputs):
                self._bind("input", index, np.require(tensors[binding.name], requirements=["C", "W"]))
            for index, array in enumerate(results.values()):
                self._bind("output", index, array)
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise SessionError(f"OpenVINO failed while running: {error}") from error
        return results

    def close(self) -> None:
        """Release the request and the model's memory."""
        self._request = None
        self._bound.clear()

    def _bind(self, kind: str, index: int, array: Array) -> None:
        """Have the request use the caller's own memory, which spares it a copy."""
        if self._bound.get((kind, index)) is array:
            return
        bind = self._request.set_input_tensor if kind == "input" else self._request.set_output_tensor
        bind(index, self._tensor(array, shared_memory=True))
        self._bound[kind, index] = array


def compile_onnx(path: Path, *, dimensions: Mapping[str, int], threads: int) -> Any:
    """Compile an ONNX file for this processor; `export_model` of the result gives a blob's bytes.

    Raises:
        SessionError: OpenVINO is missing, cannot read the file, or a dimension is left open.
    """
    openvino = load_openvino()
    shapes = {binding.name: list(binding.shape) for binding in read_inputs(path, dimensions)}
    core = openvino.Core()
    try:
        model = core.read_model(path)
        model.reshape(shapes)
        return core.compile_model(model, "CPU", _settings(threads))
    except RuntimeError as error:
        raise SessionError(f"OpenVINO cannot compile {path}: {error}") from error


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    The import of its conversion tool, which it does by itself, reports to Google Analytics from a thread unless the
    package `openvino_telemetry` is out of reach (tools/ovc/__init__.py of 2026.4).

    Raises:
        SessionError: It is not installed, or was imported with its telemetry before.
    """
    if find_spec("openvino") is None:
        raise SessionError("OpenVINO is not installed; pip install 'relume[cpu]', or use another backend")
    if sys.modules.setdefault("openvino_telemetry", None) is not None:  # type: ignore[arg-type]
        raise SessionError("OpenVINO was imported with its telemetry; import it only through load_openvino")
    import openvino  # noqa: TID251

    return openvino


def _import_blob(path: Path, *, threads: int) -> Any:
    core = load_openvino().Core()
    try:
        return core.import_model(path.read_bytes(), "CPU", _settings(threads))
    except (OSError, RuntimeError) as error:
        raise SessionError(f"OpenVINO cannot open the compiled model {path}: {error}; build it again") from error


def _settings(threads: int) -> dict[str, Any]:
    return {
        # Left to itself it computes in bfloat16 where the processor can: 8 bits of mantissa, and another result.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Threads that are tied to cores would wait there for decode and encode to leave.
        "ENABLE_CPU_PINNING": False,
        # As in ONNX Runtime: states that fade would otherwise reach denormals.
        "CPU_DENORMALS_OPTIMIZATION": True,
    }


def _bindings(ports: Any) -> tuple[Binding, ...]:
    return tuple(Binding(_name(port), np.dtype(port.element_type.to_dtype()), tuple(port.shape)) for port in ports)


def _name(port: Any) -> str:
    """Return the name that a port has in the file: where a step that does nothing is left out, two names meet."""
    name = str(port.node.friendly_name).removesuffix("/sink_port_0")
    return name if name in port.names else str(port.any_name)
