"""The machine that Relume runs on: processor, memory, GPUs."""

import ctypes
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

_KEPT_S: Final = 60
_QUERY: Final = "name,memory.total,driver_version,compute_cap"


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it; an unknown field is empty or `[N/A]`."""

    name: str
    memory: str
    driver: str
    capability: str

    def __str__(self) -> str:
        return f"{self.name}, {self.memory}, {self.driver}"


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine itself; `cores` are those that this process may use."""

    system: str
    machine: str
    board: str | None
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]


def detect_hardware() -> Hardware:
    """Return the hardware of this machine."""
    board = Path("/proc/device-tree/model")
    return Hardware(
        system=platform.system(),
        machine=platform.machine(),
        board=board.read_text(errors="replace").strip("\0\n") if board.is_file() else None,
        cpu=read_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=tuple(str(gpu) for gpu in read_gpus()),
    )


def read_cpu_model() -> str:
    """Return the name of the processor."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, the one that CUDA calls 0 first.

    nvidia-smi lists them, run at most once a minute; every driver but a Jetson's has it.
    """
    tool = shutil.which("nvidia-smi")
    gpus = () if tool is None else _run_nvidia_smi(tool, int(time.monotonic() / _KEPT_S))
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None or not all(name.strip().isdecimal() for name in names.split(",") if name):
        return gpus  # a GPU that is named by its UUID is not looked for
    numbers = [int(name) for name in names.split(",") if name]
    return tuple(gpus[number] for number in numbers if number < len(gpus))


@lru_cache(maxsize=1)
def _run_nvidia_smi(tool: str, period: int) -> tuple[Gpu, ...]:
    del period
    command = [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(_parse_gpu(line) for line in done.stdout.splitlines() if line.strip())


def _parse_gpu(line: str) -> Gpu:
    fields = [part.strip() for part in line.split(",")]
    return Gpu(*(*fields, "", "", "", "")[:4])


@lru_cache
def read_cuda_version() -> str:
    """Return the CUDA version of the driver, such as 13.0, as reported by its library; empty without a driver."""
    version = ctypes.c_int()
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) != 0:
            return ""
    except (OSError, AttributeError):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
