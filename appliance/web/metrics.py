"""Metrics for Prometheus."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.web.services import Services
from runtime.version import relume_version

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

AnyFamily = CounterMetricFamily | GaugeMetricFamily


def write_metrics(services: Services) -> bytes:
    """Return all metrics in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(services))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[AnyFamily]:
        version = GaugeMetricFamily("relume_info", "Running version", labels=["version"])
        version.add_metric([relume_version()], 1)
        yield version
        jobs = GaugeMetricFamily("relume_jobs", "Jobs by state", labels=["state"])
        for state, count in self._services.queue.counts().items():
            jobs.add_metric([state], count)
        yield jobs
        yield from self._work()
        yield from self._machine()

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
        yield GaugeMetricFamily("relume_done_frames", "Frames of the listed finished jobs", frames)
        yield GaugeMetricFamily("relume_done_seconds", "Processing time of the listed finished jobs", seconds)
        yield GaugeMetricFamily("relume_frames_per_second", "Frames per second of the running jobs", running_fps)
        yield GaugeMetricFamily("relume_uploads_waiting", "Uploaded files without a job", waiting)
        yield GaugeMetricFamily("relume_uploads_coming", "Unfinished uploads", coming)
        yield CounterMetricFamily(
            "relume_upload_bytes", "Bytes uploaded since the server started", services.uploads.bytes_received
        )

    def _machine(self) -> Iterator[AnyFamily]:
        services = self._services
        brief = services.system.brief()
        yield GaugeMetricFamily(
            "relume_disk_free_bytes", "Free space on the disk of the data directory", brief["disk"]["free"]
        )
        yield GaugeMetricFamily(
            "relume_disk_total_bytes", "Size of the disk of the data directory", brief["disk"]["total"]
        )
        if brief["temperature_c"] is not None:
            yield GaugeMetricFamily("relume_temperature_celsius", "Highest sensor temperature", brief["temperature_c"])
        yield GaugeMetricFamily("relume_workers", "Worker processes", services.system.workers())
        yield GaugeMetricFamily("relume_listeners", "Open live update connections", services.broadcaster.listeners)
        yield GaugeMetricFamily("relume_uptime_seconds", "Time since the server started", services.system.uptime_s)
