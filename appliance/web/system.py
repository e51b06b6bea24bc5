"""The state of the server for the system page: machine, models, disk, temperature, workers and the end of the log."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from appliance.jobs.worker_process import WorkerStatus
from appliance.settings import Settings
from runtime.errors import RelumeError
from runtime.version import relume_version

if TYPE_CHECKING:
    from runtime.engine.choose import Choice
    from runtime.manifest import Model

_LOG_BYTES: Final = 32_000
_LOG_LINES: Final = 200

Workers = Callable[[], Sequence[WorkerStatus]]


class SystemStatus:
    """Collects the state of the server."""

    def __init__(self, settings: Settings, workers: Workers = tuple, *, fallback: bool = False) -> None:
        self._settings, self._workers, self._fallback = settings, workers, fallback
        self._started = time.monotonic()

    def brief(self) -> dict[str, Any]:
        """Return the values that change continually."""
        disk = shutil.disk_usage(self._settings.data)
        return {
            "disk": {"free": disk.free, "total": disk.total, "reserve": self._settings.disk_reserve_bytes},
            "temperature_c": highest_temperature(psutil.sensors_temperatures()),
            "load": os.getloadavg()[0],
            "cores": len(os.sched_getaffinity(0)),
            "settings_fallback": self._fallback,
        }

    def full(self, *, with_log: bool) -> dict[str, Any]:
        """Return everything; the log is for administrators."""
        memory = psutil.virtual_memory()
        return {
            "version": relume_version(),
            "device": self._device,
            **self._models(),
            **self.brief(),
            "memory": {
                "total": memory.total,
                "free": memory.available,
                "server": psutil.Process().memory_info().rss,
            },
            "workers": [asdict(worker) for worker in self._workers()],
            "log_tail": read_tail(self._settings.log_file) if with_log else [],
            "uptime_s": self.uptime_s,
        }

    def workers(self) -> int:
        """Return the number of worker processes."""
        return len(self._workers())

    @property
    def uptime_s(self) -> float:
        """Seconds since the server started."""
        return time.monotonic() - self._started

    @cached_property
    def _device(self) -> str:
        """The name of the machine's board, GPU or processor."""
        from runtime.hardware import detect_hardware

        machine = detect_hardware()
        return machine.board or (machine.gpus[0] if machine.gpus else f"{machine.cpu}, {machine.cores} cores")

    def _models(self) -> dict[str, Any]:
        """Return the models and the backends that the next job will use; benchmarks may change them at any time."""
        from runtime.manifest import list_models

        models = list_models()
        choices = [self._choose(model) for model in models]
        return {
            "backend": ", ".join(dict.fromkeys(choice.backend.name for choice in choices)),
            "precision": ", ".join(dict.fromkeys(choice.backend.precision for choice in choices)),
            "engines": [
                {
                    "name": model.manifest.name,
                    "title": model.manifest.title,
                    "task": model.manifest.task,
                    "licence": model.manifest.licence,
                    "precision": choice.backend.precision,
                    "backend": choice.backend.name,
                    "reason": choice.reason,
                    "sha256": model.manifest.files[0].sha256,
                }
                for model, choice in zip(models, choices, strict=True)
            ],
        }

    def _choose(self, model: "Model") -> "Choice":
        """Choose as a job would; backend and precision settings that this model does not support are ignored."""
        from runtime.engine.choose import BackendPreference, choose_engine

        settings = self._settings
        try:
            preference = BackendPreference(settings.backend, settings.precision)
            return choose_engine(model, preference, threads=1, engines=settings.engines)
        except RelumeError:
            return choose_engine(model, BackendPreference(), threads=1, engines=settings.engines)


def highest_temperature(sensors: Mapping[str, Sequence[Any]]) -> float | None:
    """Return the highest of the temperatures that psutil reads, in degrees Celsius; None without a valid one."""
    readings = [reading.current for sensor in sensors.values() for reading in sensor]
    # A sensor that is switched off reports absurd values.
    return max((value for value in readings if -40 < value < 150), default=None)


def read_tail(path: Path) -> list[str]:
    """Return the last lines of the log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.splitlines()
    return lines[1 if size > _LOG_BYTES else 0 :][-_LOG_LINES:]
