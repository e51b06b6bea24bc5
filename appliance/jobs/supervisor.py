"""Keeps one worker process a device alive.

Nothing here asks the clock on the wall: a worker lives while its lock is held, and hangs when its count of heartbeats
stands still by this process's own monotonic clock.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from appliance.jobs.queue import JobQueue
from appliance.jobs.worker import lock_path
from appliance.jobs.worker_process import Limits, Seat, WorkerStatus, read_oom_kills
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.errors import StoreError
from runtime.closing import Closing
from runtime.file_lock import LockFile
from runtime.resume.writer import SegmentRule

__all__ = ["Limits", "Supervisor", "WorkerStatus", "list_devices"]

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.2
_STOP_S: Final = 20.0
_STRANGERS_S: Final = 5.0


class Supervisor(Closing):
    """The workers of a data directory, whose lock the caller holds; `close` ends them, and they go on the next time."""

    def __init__(
        self,
        data: Path,
        *,
        devices: Sequence[str] | None = None,
        limits: Limits | None = None,
        rule: SegmentRule | None = None,
        log: Path | None = None,
        count_oom_kills: Callable[[], int | None] | None = None,
    ) -> None:
        """Open the database, and look whether it is whole.

        Args:
            data: The data directory.
            devices: What gets a worker each, None for what `list_devices` gives.
            limits: What workers may do.
            rule: How long segments are, None for the usual.
            log: Where the workers' own lines are added, None for standard error.
            count_oom_kills: Counts what the kernel has ended for want of memory; `read_oom_kills` if None.

        Raises:
            StoreError: The database is damaged, newer than this program, or cannot be used.
        """
        self._limits = limits or Limits()
        self._database = Database(database_path(data), check=True)
        self._queue = JobQueue(self._database)
        self._stopping = threading.Event()
        self._seats = [
            Seat(data, device, self._queue, self._limits, rule, log, count_oom_kills or read_oom_kills)
            for device in (list_devices() if devices is None else devices)
        ]
        self._thread = threading.Thread(target=self._run, name="relume-supervisor", daemon=True)

    def start(self) -> None:
        """Start the workers and watch them, from a thread of its own, whose end would end them too."""
        for folder in self._database.path.parent.glob(".trial-*"):
            # Of an estimate whose server was killed.
            shutil.rmtree(folder, ignore_errors=True)
        self._thread.start()

    def status(self) -> list[WorkerStatus]:
        """Tell of every worker."""
        return [seat.status() for seat in self._seats]

    def close(self) -> None:
        """End the workers; the jobs they hold go back to the queue as they are."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._database.close()

    def _run(self) -> None:
        try:
            self._queue.remove_leftovers()
        except (StoreError, OSError) as error:
            logger.warning("leftovers cannot be removed: %s", error)
        strangers_due = 0.0
        while not self._stopping.wait(_POLL_S):
            if time.monotonic() >= strangers_due:
                strangers_due = time.monotonic() + _STRANGERS_S
                self._release_strangers()
            for seat in self._seats:
                try:
                    seat.look()
                except StoreError as error:
                    logger.warning("worker %s: %s", seat.device, error)
                    self._stopping.wait(1.0)
                except Exception:
                    logger.exception("worker %s cannot be watched; trying again", seat.device)
                    self._stopping.wait(1.0)
        for seat in self._seats:
            seat.ask_to_stop()
        deadline = time.monotonic() + _STOP_S
        for seat in self._seats:
            seat.wait_for_end(deadline)

    def _release_strangers(self) -> None:
        """Give back what workers hold of devices that the settings name no more, once they have ended."""
        try:
            for worker in self._queue.holders() - {seat.device for seat in self._seats}:
                lock = LockFile.take(lock_path(self._database.path.parent, worker))
                if lock is not None:
                    with lock:
                        self._queue.release(worker)
        except (StoreError, OSError) as error:
            logger.warning("jobs of earlier workers cannot be given back: %s", error)


def list_devices() -> list[str]:
    """Return the devices that get a worker each by default: one for the whole machine, named after its best device."""
    from runtime.engine.backends import list_backends

    return ["gpu" if any(backend.available and backend.on_gpu for backend in list_backends()) else "cpu"]
