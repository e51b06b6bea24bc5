"""The box that Relume runs on: processor, memory, GPUs."""

import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

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
