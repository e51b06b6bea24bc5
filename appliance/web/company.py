"""What runs beside the web server: the workers, the watch folders, the engines' builds, and the name on the network."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from appliance.box.announce import announce
from appliance.engines.keeper import EngineKeeper
from appliance.engines.measuring import SpeedKeeper
from appliance.jobs.queue import JobQueue
from appliance.jobs.supervisor import Limits, Supervisor
from appliance.settings import LOOPBACK, Settings
from appliance.store.database import Database
from appliance.watch.store import FolderStore
from appliance.watch.watcher import Watcher
from runtime.engine.store.store import EngineStore


@dataclass(frozen=True, slots=True)
class Company:
    """What was started."""

    supervisor: Supervisor

    def workers(self) -> list[dict[str, Any]]:
        """Tell of the worker processes."""
        return [asdict(status) for status in self.supervisor.status()]


@contextmanager
def start_company(database: Database, settings: Settings) -> Iterator[Company]:
    """Start what runs beside the web server, and end it after the block, the latest first."""
    with ExitStack() as stack:
        devices = None if settings.device == "auto" else settings.device.split(",")
        limits = Limits(
            memory_bytes=settings.worker_memory_bytes,
            threads=settings.threads or None,
            reserve_bytes=settings.disk_reserve_bytes,
            backend=settings.backend,
            precision=settings.precision,
        )
        supervisor = stack.enter_context(Supervisor(settings.data, devices=devices, limits=limits))
        supervisor.start()

        def is_idle() -> bool:
            return all(worker.job is None for worker in supervisor.status())

        speeds = stack.enter_context(SpeedKeeper(settings.engines, is_idle, own=settings.zoo))
        speeds.start()
        keeper = EngineKeeper(
            EngineStore(settings.engines), is_idle, budget_bytes=settings.engines_bytes, on_ready=speeds.look_again
        )
        stack.enter_context(keeper).start()
        stack.enter_context(Watcher(FolderStore(database), JobQueue(database)))
        if settings.announce and settings.host not in LOOPBACK:
            stack.enter_context(announce(settings.port, tls=settings.tls))
        yield Company(supervisor)
