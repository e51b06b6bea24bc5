"""What the system page shows: the box, what enhances on it, its disk and warmth, and the end of its log."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.settings import Settings
from appliance.web.services import Services
from runtime.errors import RelumeError
from runtime.version import relume_version

if TYPE_CHECKING:
    from runtime.engine.choose import Choice
    from runtime.manifest import Model


_THERMAL: Final = Path("/sys/class/thermal")
_LOG_BYTES: Final = 32_000
_LOG_LINES: Final = 200

Workers = Callable[[], Sequence[dict[str, Any]]]


class SystemStatus:
    """The box as its server sees it."""

    def __init__(self, settings: Settings, workers: Workers = tuple, *, fallback: bool = False) -> None:
        self._settings, self._workers, self._fallback = settings, workers, fallback
        self._started = time.monotonic()

    def brief(self) -> dict[str, Any]:
        """Return what changes all the time."""
        disk = shutil.disk_usage(self._settings.data)
        return {
            "disk": {"free": disk.free, "total": disk.total, "reserve": self._settings.disk_reserve_bytes},
            "temperature_c": read_temperature(),
            "load": os.getloadavg()[0],
            "cores": len(os.sched_getaffinity(0)),
            "settings_fallback": self._fallback,
        }

    def full(self, *, with_log: bool) -> dict[str, Any]:
        """Return everything; the log is for administrators."""
        return {
            "version": relume_version(),
            **self._device,
            **self._models(),
            **self.brief(),
            "memory": read_memory(),
            "workers": list(self._workers()),
            "log_tail": read_tail(self._settings.log_file) if with_log else [],
            "uptime_s": self.uptime_s,
        }

    def workers(self) -> list[dict[str, Any]]:
        """Return the worker processes."""
        return list(self._workers())

    @property
    def uptime_s(self) -> float:
        """For how long the server has run."""
        return time.monotonic() - self._started

    @cached_property
    def _device(self) -> dict[str, Any]:
        """Look at what does not change while the server runs."""
        from runtime.hardware import look_at_hardware

        box = look_at_hardware()
        return {"device": box.board or (box.gpus[0] if box.gpus else f"{box.cpu}, {box.cores} cores")}

    def _models(self) -> dict[str, Any]:
        """Tell what the models run with from now on: `relume doctor` may have measured since the start."""
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
        """Choose as a job would; a wish that this model cannot meet was meant for others."""
        from runtime.engine.choose import BackendPreference, choose_engine

        settings = self._settings
        try:
            preference = BackendPreference(settings.backend, settings.precision)
            return choose_engine(model, preference, threads=1, engines=settings.engines)
        except RelumeError:
            return choose_engine(model, BackendPreference(), threads=1, engines=settings.engines)


def read_temperature(folder: Path = _THERMAL) -> float | None:
    """Return the temperature of the warmest part that tells one, in degrees Celsius."""
    found = []
    for path in folder.glob("thermal_zone*/temp"):
        try:
            found.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    # Sensors that are switched off tell absurd values.
    return max((value for value in found if -40 < value < 150), default=None)


def read_memory() -> dict[str, int]:
    """Return the memory of the box, what is free of it, and what this server holds; bytes."""
    table = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            table[name] = int(rest.split()[0]) * 1024
        own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        own = 0
    return {"total": table.get("MemTotal", 0), "free": table.get("MemAvailable", 0), "server": own}


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


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

AnyFamily = CounterMetricFamily | GaugeMetricFamily


def write_metrics(services: Services) -> bytes:
    """Write all figures in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(services))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[AnyFamily]:
        services = self._services
        version = GaugeMetricFamily("relume_info", "The version that runs", labels=["version"])
        version.add_metric([relume_version()], 1)
        yield version
        jobs = GaugeMetricFamily("relume_jobs", "Jobs in each state", labels=["state"])
        for state, count in services.queue.counts().items():
            jobs.add_metric([state], count)
        yield jobs
        yield from self._work()
        yield from self._box()

    def _work(self) -> Iterator[AnyFamily]:
        services = self._services
        with services.database.read() as connection:
            frames, seconds = connection.execute(
                "SELECT COALESCE(SUM(frames_done), 0), COALESCE(SUM(finished_at - started_at), 0) FROM jobs "
                "WHERE state = 'done'"
            ).fetchone()
            (running_fps,) = connection.execute(
                "SELECT COALESCE(SUM(fps), 0) FROM jobs WHERE state = 'running'"
            ).fetchone()
            waiting, coming = connection.execute(
                "SELECT COALESCE(SUM(finished_at IS NOT NULL AND job IS NULL), 0), "
                "COALESCE(SUM(finished_at IS NULL), 0) FROM uploads"
            ).fetchone()
        yield GaugeMetricFamily("relume_done_frames", "Frames of the done jobs that are listed", frames)
        yield GaugeMetricFamily("relume_done_seconds", "Time that the done jobs that are listed took", seconds)
        yield GaugeMetricFamily("relume_frames_per_second", "Frames a second of the running jobs", running_fps)
        yield GaugeMetricFamily("relume_uploads_waiting", "Files that wait for a job", waiting)
        yield GaugeMetricFamily("relume_uploads_coming", "Uploads that are not complete", coming)
        yield CounterMetricFamily(
            "relume_upload_bytes", "Bytes uploaded since the start", services.uploads.bytes_received
        )

    def _box(self) -> Iterator[AnyFamily]:
        services = self._services
        brief = services.system.brief()
        yield GaugeMetricFamily(
            "relume_disk_free_bytes", "Free on the disk of the data directory", brief["disk"]["free"]
        )
        yield GaugeMetricFamily("relume_disk_total_bytes", "Size of that disk", brief["disk"]["total"])
        if brief["temperature_c"] is not None:
            yield GaugeMetricFamily("relume_temperature_celsius", "The warmest sensor", brief["temperature_c"])
        yield GaugeMetricFamily("relume_workers", "Worker processes", len(services.system.workers()))
        yield GaugeMetricFamily("relume_listeners", "Open live updates", services.broadcaster.listeners)
        yield GaugeMetricFamily("relume_uptime_seconds", "Time since the start of the server", services.system.uptime_s)
