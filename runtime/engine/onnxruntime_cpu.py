"""ONNX Runtime on the CPU: the engine that every box has."""

from collections.abc import Mapping
from pathlib import Path

from runtime.engine.onnxruntime_file import OnnxRuntimeSession, fix_dimensions, load_onnxruntime
from runtime.errors import SessionError


class OnnxRuntimeCpuSession(OnnxRuntimeSession):
    """A network in ONNX Runtime's CPU provider."""

    backend = "onnxruntime-cpu"

    def __init__(self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int) -> None:
        onnxruntime = load_onnxruntime()
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
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime cannot open {path}: {error}") from error
        super().__init__(session, path, precision=precision)
