"""ONNX Runtime on the CPU: the engine that every box has."""

from collections.abc import Mapping
from pathlib import Path

from runtime.closing import Closing
from runtime.engine.onnxruntime_file import fix_dimensions, read_bindings
from runtime.engine.session import Array, check_tensors
from runtime.errors import SessionError


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
        fix_dimensions(options, dimensions)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime cannot open {path}: {error}") from error
        self.precision = precision
        self.inputs = read_bindings(self._session.get_inputs(), path)
        self.outputs = read_bindings(self._session.get_outputs(), path)
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
