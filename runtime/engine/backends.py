"""The inference backends: whether each is available on this machine, and how it opens a file."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from runtime.engine.device import EngineType
from runtime.engine.session import Session
from runtime.errors import OptionError, SessionError
from runtime.manifest import QuantScheme


def quant_scheme(engine_type: EngineType | None) -> QuantScheme:
    """Return the scheme of the INT8 files that engines of a type are built from; None is a backend without engines."""
    return (
        QuantScheme.SYMMETRIC_S8 if engine_type in (EngineType.TENSORRT, EngineType.RTX) else QuantScheme.ASYMMETRIC_U8
    )


_GPU_FILES: Final = ("/dev/nvidia0", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu", "/dev/dxg")
"""Device files of an NVIDIA GPU on a PC, on a Jetson (two names), and under WSL."""
_ON_CPU: Final = ("cpu", "openvino")
_ORT: Final = ("onnxruntime", "onnxruntime-gpu")
_ORT_GPU: Final = ("onnxruntime-gpu",)
TWO_ORTS: Final = (
    "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; pip uninstall both, then "
    "pip install 'relume[cuda]'"
)


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A backend: whether it is available here, and the reason.

    precisions: Of the files that it runs, the most accurate first.
    libraries: The names under which its library is installed; the version can change the last bits of its results.
    engine_type: The type of engine that it runs, for one that runs no ONNX files.
    """

    name: str
    available: bool
    reason: str
    precisions: tuple[str, ...]
    libraries: tuple[str, ...]
    on_gpu: bool = False
    engine_type: EngineType | None = None

    @property
    def quant_scheme(self) -> QuantScheme:
        """The scheme of the INT8 files that it runs."""
        return quant_scheme(self.engine_type)

    @property
    def library_version(self) -> str:
        """The library with its version, as measurements and workspaces store it."""
        for library in self.libraries:
            with suppress(PackageNotFoundError):
                return f"{library} {version(library)}"
        return f"{self.libraries[0]} missing"

    def open_file(self, path: Path, shape: Mapping[str, int], *, precision: str, threads: int) -> Session:
        """Open an ONNX file, or an engine of this backend's type.

        Args:
            path: The file.
            shape: The size of every named dimension of an ONNX file; an engine has fixed shapes.
            precision: Of the file.
            threads: CPU threads that the session may use.

        Raises:
            SessionError: The library is missing, or cannot open the file.
        """
        return _OPENERS[self.name](path, shape, precision, threads)


def list_backends() -> tuple[BackendInfo, ...]:
    """Return every backend, the default one first; nothing heavy is imported."""
    gpu = _lacks_gpu()
    ort, arrays = _lacks("onnxruntime", "relume[cpu]"), _lacks("cupy", "relume[cuda]")
    trt, rtx = _lacks("tensorrt", "relume[tensorrt]"), _lacks("tensorrt_rtx", "relume[rtx]")
    ort_gpu = _lacks_ort_gpu()
    on_cpu, on_gpu, engines = ("fp32", "int8"), ("fp32", "fp16"), ("fp32", "fp16", "int8")
    rows = (
        ("cpu", (ort,), "ONNX Runtime runs on every processor", on_cpu, _ORT, None),
        (
            "openvino", (ort, _lacks("openvino", "relume[cpu]")), "OpenVINO runs on this processor", on_cpu,
            ("openvino",), EngineType.OPENVINO,
        ),
        ("cuda", (gpu, ort_gpu), "ONNX Runtime runs on the GPU", on_gpu, _ORT_GPU, None),
        (
            "tensorrt", (gpu, arrays, trt), "TensorRT runs engines from the engine store", engines,
            ("tensorrt-cu13", "tensorrt-cu12", "tensorrt"), EngineType.TENSORRT,
        ),
        (
            "rtx", (gpu, arrays, rtx), "TensorRT for RTX runs engines from the engine store", engines,
            ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"), EngineType.RTX,
        ),
    )  # fmt: skip
    return tuple(_judge(*row) for row in rows)


def find_backend(name: str) -> BackendInfo:
    """Return the backend of that name.

    Raises:
        OptionError: No backend has that name.
        SessionError: The backend cannot be used here; the message has the remedy.
    """
    backends = {backend.name: backend for backend in list_backends()}
    if name not in backends:
        raise OptionError(f"no backend named {name!r}; there are: auto, {', '.join(backends)}")
    if not backends[name].available:
        raise SessionError(f"backend {name} cannot be used: {backends[name].reason}")
    return backends[name]


def _judge(
    name: str,
    lacks: tuple[str, ...],
    reason: str,
    precisions: tuple[str, ...],
    libraries: tuple[str, ...],
    engine_type: EngineType | None,
) -> BackendInfo:
    missing = next((lack for lack in lacks if lack), "")
    return BackendInfo(name, not missing, missing or reason, precisions, libraries, name not in _ON_CPU, engine_type)


def _lacks_gpu() -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "the GPUs are hidden from Relume (CUDA_VISIBLE_DEVICES is empty)"
    return "" if any(Path(name).exists() for name in _GPU_FILES) else "no NVIDIA GPU is visible; install its driver"


def _lacks(module: str, package: str) -> str:
    return "" if find_spec(module) is not None else f"{module} is missing; pip install '{package}'"


def _lacks_ort_gpu() -> str:
    """Return why ONNX Runtime cannot use a GPU: its two distributions overwrite each other's module."""
    if not is_installed("onnxruntime-gpu"):
        instead = "pip uninstall onnxruntime, then " if is_installed("onnxruntime") else ""
        return f"onnxruntime-gpu is missing; {instead}pip install 'relume[cuda]'"
    return TWO_ORTS if is_installed("onnxruntime") else ""


def is_installed(distribution: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _open_cpu(path: Path, shape: Mapping[str, int], precision: str, threads: int) -> Session:
    from runtime.engine.onnxruntime import OnnxRuntimeCpuSession

    return OnnxRuntimeCpuSession(path, dimensions=shape, precision=precision, threads=threads)


def _open_openvino(path: Path, shape: Mapping[str, int], precision: str, threads: int) -> Session:
    from runtime.engine.openvino import OpenVinoSession

    return OpenVinoSession(path, dimensions=shape, precision=precision, threads=threads)


def _open_cuda(path: Path, shape: Mapping[str, int], precision: str, threads: int) -> Session:
    from runtime.engine.onnxruntime import OnnxRuntimeGpuSession

    return OnnxRuntimeGpuSession(path, dimensions=shape, precision=precision, threads=threads)


def _open_tensorrt(path: Path, shape: Mapping[str, int], precision: str, threads: int) -> Session:
    from runtime.engine.tensorrt import TensorRtSession

    del shape, threads  # the engine has fixed shapes and runs on the GPU
    return TensorRtSession(path, engine_type=EngineType.TENSORRT, precision=precision)


def _open_rtx(path: Path, shape: Mapping[str, int], precision: str, threads: int) -> Session:
    from runtime.engine.tensorrt import TensorRtSession

    del shape, threads
    return TensorRtSession(path, engine_type=EngineType.RTX, precision=precision)


_OPENERS: Final[Mapping[str, Callable[[Path, Mapping[str, int], str, int], Session]]] = {
    "cpu": _open_cpu,
    "openvino": _open_openvino,
    "cuda": _open_cuda,
    "tensorrt": _open_tensorrt,
    "rtx": _open_rtx,
}
