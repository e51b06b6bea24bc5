"""Figures for Prometheus, gathered when they are asked for."""

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
