"""The box that Relume runs on: processor, memory, GPUs."""

import hashlib
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from runtime.engine.backends import Flavour
from runtime.errors import EngineStoreError

_KEPT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Hardware:
    """The box itself; `cores` are those that this process may use."""

    system: str
    machine: str
    board: str | None
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]


def look_at_hardware() -> Hardware:
    """Look at this box."""
    board = Path("/proc/device-tree/model")
    return Hardware(
        system=platform.system(),
        machine=platform.machine(),
        board=board.read_text(errors="replace").strip("\0\n") if board.is_file() else None,
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=_find_gpus(),
    )


def _cpu_model() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _find_gpus() -> tuple[str, ...]:
    tool = shutil.which("nvidia-smi")
    # It takes tens of milliseconds, and every job and page asks.
    return () if tool is None else _ask_for_gpus(tool, int(time.monotonic() / _KEPT_S))


@lru_cache(maxsize=1)
def _ask_for_gpus(tool: str, period: int) -> tuple[str, ...]:
    del period
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


_MODULES: Final = {Flavour.RTX: "tensorrt_rtx", Flavour.TENSORRT: "tensorrt", Flavour.OPENVINO: "openvino"}
_DISTRIBUTIONS: Final = {
    Flavour.RTX: ("tensorrt-rtx-cu13", "tensorrt-rtx"),
    Flavour.TENSORRT: ("tensorrt-cu13", "tensorrt"),
    Flavour.OPENVINO: ("openvino",),
}
_REMEDIES: Final = {Flavour.RTX: "'relume[rtx]'", Flavour.TENSORRT: "'relume[tensorrt]'", Flavour.OPENVINO: "openvino"}
_QUERY: Final = "name,compute_cap,memory.total,driver_version"
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """What an engine of a flavour depends on here.

    `capability` is `sm89` or the like of a GPU, and a digest of the instruction sets of a processor, whose memory,
    driver and CUDA mean nothing to an engine and are left empty.
    """

    runtime_version: str
    product: str
    capability: str
    memory_bytes: int = 0
    driver: str = ""
    cuda: str = ""


@lru_cache
def look_at_device(flavour: Flavour) -> EngineDevice:
    """Look at what engines of a flavour run on here; once for a process, since a driver is not changed under it.

    Raises:
        EngineStoreError: The library is missing, or there is no such device.
    """
    runtime_version = read_version(flavour)
    if flavour is Flavour.OPENVINO:
        return EngineDevice(runtime_version, look_at_hardware().cpu, _digest_instructions())
    name, capability, memory_bytes, driver = _find_gpu(flavour)
    return EngineDevice(runtime_version, name, capability, memory_bytes, driver, _read_cuda())


def read_version(flavour: Flavour) -> str:
    """Return the version of a flavour's library.

    Raises:
        EngineStoreError: It is not installed.
    """
    if find_spec(_MODULES[flavour]) is None:
        raise EngineStoreError(f"{_MODULES[flavour]} is not installed; pip install {_REMEDIES[flavour]}")
    for distribution in _DISTRIBUTIONS[flavour]:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    # JetPack's own package has no metadata that pip could read.
    return str(import_module(_MODULES[flavour]).__version__)


def read_gpu(line: str) -> tuple[str, str, int, str]:
    """Read a line of nvidia-smi: name, compute capability, memory in MiB, driver.

    Raises:
        ValueError: It is no such line; a GPU that shares the processor's memory gives [N/A].
    """
    name, capability, memory, driver = (part.strip() for part in line.split(","))
    major, minor = capability.split(".")
    return name, f"sm{int(major)}{int(minor)}", int(memory.split()[0]) * _MIB, driver


def _digest_instructions() -> str:
    table = Path("/proc/cpuinfo")
    text = platform.machine()
    if table.is_file():
        lines = table.read_text(errors="replace").splitlines()
        text += next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(" ".join(sorted(text.split())).encode()).hexdigest()[:16]


def _find_gpu(flavour: Flavour) -> tuple[str, str, int, str]:
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        try:
            told = subprocess.run(
                [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
            return read_gpu(told.stdout.splitlines()[0])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            # As on Jetson, where it does not tell everything.
            pass
    if find_spec("cupy") is not None:
        import cupy

        try:
            told_of = cupy.cuda.runtime.getDeviceProperties(0)
            driver = str(cupy.cuda.runtime.driverGetVersion())
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise _no_gpu(flavour) from error
        capability = f"sm{told_of['major']}{told_of['minor']}"
        return told_of["name"].decode(), capability, int(told_of["totalGlobalMem"]), driver
    raise _no_gpu(flavour)


def _no_gpu(flavour: Flavour) -> EngineStoreError:
    return EngineStoreError(
        f"no NVIDIA GPU is found here, and {flavour} engines run on nothing else; name the GPU to build for "
        "(--for sm89), or build for the processor (--flavour openvino)"
    )


def _read_cuda() -> str:
    """Return the version of CUDA that the driver brings; empty where nvidia-smi does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        told = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    line = next((line for line in told.stdout.splitlines() if line.strip().startswith("CUDA Version")), "")
    return line.partition(":")[2].strip()
