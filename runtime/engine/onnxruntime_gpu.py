"""ONNX Runtime on an NVIDIA GPU: its CUDA provider, or its TensorRT provider."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from runtime.engine.onnxruntime_file import OnnxRuntimeSession, fix_dimensions, load_onnxruntime
from runtime.errors import SessionError


class Provider(StrEnum):
    """What ONNX Runtime runs a network with, by its own name."""

    CUDA = "CUDAExecutionProvider"
    TENSORRT = "TensorrtExecutionProvider"


_BACKENDS: Final = {Provider.CUDA: "onnxruntime-cuda", Provider.TENSORRT: "onnxruntime-tensorrt"}
_AGAIN: Final = "pip uninstall onnxruntime onnxruntime-gpu, then pip install"
_REMEDIES: Final = {
    Provider.CUDA: f"{_AGAIN} 'relume[cuda]', with a driver for its CUDA",
    Provider.TENSORRT: f"{_AGAIN} 'relume[cuda,tensorrt]', with a driver for its CUDA",
}


class OnnxRuntimeGpuSession(OnnxRuntimeSession):
    """A network in one of ONNX Runtime's GPU providers; arrays are copied to the device and back by each run.

    Raises:
        SessionError: The provider cannot be used here, or the file cannot be opened.
    """

    def __init__(
        self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int, provider: Provider
    ) -> None:
        onnxruntime = load_onnxruntime()
        if provider not in onnxruntime.get_available_providers():
            raise SessionError(f"this ONNX Runtime was built without {provider}; {_REMEDIES[provider]}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        fix_dimensions(options, dimensions)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=_providers(provider))
        except Exception as error:  # ONNX Runtime's errors share no public root
            raise SessionError(f"ONNX Runtime cannot open {path} on the GPU: {error}") from error
        # A provider that does not start is only a warning to ONNX Runtime: it would run on the CPU.
        used = session.get_providers()
        if not used or used[0] != provider:
            raise SessionError(f"ONNX Runtime took {', '.join(used)} for {provider}; {_REMEDIES[provider]}")
        self.backend = _BACKENDS[provider]
        super().__init__(session, path, precision=precision, place=" on the GPU")


def _providers(provider: Provider) -> list[tuple[str, dict[str, Any]]]:
    # TF32 keeps ten bits of mantissa: not the result that the model's manifest was measured with. An exhaustive search
    # takes another algorithm whenever timings differ, and a job that goes on after a crash would get other bytes.
    cuda: tuple[str, dict[str, Any]] = (Provider.CUDA, {"use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"})
    if provider is Provider.CUDA:
        return [cuda]
    # What TensorRT does not take runs in CUDA.
    return [(Provider.TENSORRT, {}), cuda]
