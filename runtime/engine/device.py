"""The device that engines run on and the version of the library that runs them; an engine depends on both."""

import hashlib
import platform
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from runtime.errors import EngineStoreError
from runtime.hardware import Gpu, read_cpu_model, read_cuda_version, read_gpus


class EngineType(StrEnum):
    """The library that runs an engine: TensorRT for RTX, TensorRT, or OpenVINO."""

    RTX = "rtx"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


_MODULES: Final = {EngineType.RTX: "tensorrt_rtx", EngineType.TENSORRT: "tensorrt", EngineType.OPENVINO: "openvino"}
_DISTRIBUTIONS: Final = {
    EngineType.RTX: ("tensorrt-rtx-cu13", "tensorrt-rtx"),
    EngineType.TENSORRT: ("tensorrt-cu13", "tensorrt"),
    EngineType.OPENVINO: ("openvino",),
}
_REMEDIES: Final = {
    EngineType.RTX: "'relume[rtx]'",
    EngineType.TENSORRT: "'relume[tensorrt]'",
    EngineType.OPENVINO: "openvino",
}
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """The device and library that an engine depends on.

    `capability` is that of a GPU, such as `sm89`, or a digest of the instruction sets of a processor, whose memory,
    driver and CUDA do not matter to an engine and are left empty.
    """

    runtime_version: str
    product: str
    capability: str
    memory_bytes: int = 0
    driver: str = ""
    cuda: str = ""


@lru_cache
def detect_device(engine_type: EngineType) -> EngineDevice:
    """Return the device that engines of a type run on here; cached, since drivers do not change at run time.

    Raises:
        EngineStoreError: The library is missing, or there is no such device.
    """
    runtime_version = read_version(engine_type)
    if engine_type is EngineType.OPENVINO:
        return EngineDevice(runtime_version, read_cpu_model(), _digest_instructions())
    for gpu in read_gpus()[:1]:
        try:
            name, capability, memory_bytes, driver = parse_gpu(gpu)
        except ValueError:
            break  # as on a Jetson, where nvidia-smi does not report everything
        return EngineDevice(runtime_version, name, capability, memory_bytes, driver, read_cuda_version())
    return _ask_cuda(engine_type, runtime_version)


def read_version(engine_type: EngineType) -> str:
    """Return the version of an engine type's library.

    Raises:
        EngineStoreError: It is not installed.
    """
    if find_spec(_MODULES[engine_type]) is None:
        raise EngineStoreError(f"{_MODULES[engine_type]} is not installed; pip install {_REMEDIES[engine_type]}")
    for distribution in _DISTRIBUTIONS[engine_type]:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    # JetPack's own package has no metadata for pip.
    return str(import_module(_MODULES[engine_type]).__version__)


def parse_gpu(gpu: Gpu) -> tuple[str, str, int, str]:
    """Return the name, the compute capability as `sm86`, the bytes of memory and the driver of a GPU.

    Raises:
        ValueError: A field is not known; a GPU that shares the processor's memory has [N/A].
    """
    major, minor = gpu.capability.split(".")
    return gpu.name, f"sm{int(major)}{int(minor)}", int(gpu.memory.split()[0]) * _MIB, gpu.driver


def _digest_instructions() -> str:
    table = Path("/proc/cpuinfo")
    text = platform.machine()
    if table.is_file():
        lines = table.read_text(errors="replace").splitlines()
        text += next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(" ".join(sorted(text.split())).encode()).hexdigest()[:16]


def _ask_cuda(engine_type: EngineType, runtime_version: str) -> EngineDevice:
    if find_spec("cupy") is None:
        raise _no_gpu(engine_type)
    import cupy

    try:
        found = cupy.cuda.runtime.getDeviceProperties(0)
        driver = str(cupy.cuda.runtime.driverGetVersion())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise _no_gpu(engine_type) from error
    capability = f"sm{found['major']}{found['minor']}"
    return EngineDevice(runtime_version, found["name"].decode(), capability, int(found["totalGlobalMem"]), driver)


def _no_gpu(engine_type: EngineType) -> EngineStoreError:
    return EngineStoreError(
        f"no NVIDIA GPU found, and {engine_type} engines need one; name the GPU to build for "
        "(--for sm89), or build for the processor (--flavour openvino)"
    )
