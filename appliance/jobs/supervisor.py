"""Keeps one worker process for each device running.

Only monotonic time counts: a worker runs while its lock is held, and hangs while its number of heartbeats is the same.
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
from appliance.jobs.worker_process import Limits, WorkerProcess, WorkerStatus, read_oom_kills
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.errors import StoreError
from runtime.closing import Closing
from runtime.file_lock import FileLock

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.2
_STOP_S: Final = 20.0
_ORPHANS_S: Final = 5.0


class Supervisor(Closing):
    """The workers of a data directory, whose lock the caller holds; their jobs resume at the next start."""

    def __init__(
        self,
        data: Path,
        *,
        devices: Sequence[str] | None = None,
        limits: Limits | None = None,
        segment_frames: tuple[int, int] | None = None,
        log: Path | None = None,
        count_oom_kills: Callable[[], int | None] | None = None,
    ) -> None:
        """Open the database and check its integrity.

        Args:
            data: The data directory.
            devices: Devices that get a worker each, None for `list_devices`.
            limits: Limits and default options of workers.
            segment_frames: Least and most frames of a segment, None for the standard ones.
            log: File to which the workers append their output, None for standard error.
            count_oom_kills: Counts processes that the kernel killed for lack of memory; `read_oom_kills` if None.

        Raises:
            StoreError: The database is damaged, newer than this program, or cannot be used.
        """
        self._limits = limits or Limits()
        self._database = Database(database_path(data), check=True)
        self._queue = JobQueue(self._database)
        self._stopping = threading.Event()
        self._workers = [
            WorkerProcess(
                self._queue.lease(device), self._limits, segment_frames, log, count_oom_kills or read_oom_kills
            )
            for device in (list_devices() if devices is None else devices)
        ]
        self._thread = threading.Thread(target=self._run, name="relume-supervisor", daemon=True)

    def start(self) -> None:
        """Start the workers and watch them, from a thread with whose end they end too."""
        for folder in self._database.path.parent.glob(".trial-*"):
            # The workspace of an estimate whose server was killed.
            shutil.rmtree(folder, ignore_errors=True)
        self._thread.start()

    def status(self) -> list[WorkerStatus]:
        """Return the status of every worker."""
        return [worker.status() for worker in self._workers]

    def close(self) -> None:
        """End the workers; their jobs return to the queue."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._database.close()

    def _run(self) -> None:
        try:
            self._queue.remove_leftovers()
        except (StoreError, OSError) as error:
            logger.warning("leftovers cannot be removed: %s", error)
        orphans_due = 0.0
        while not self._stopping.wait(_POLL_S):
            if time.monotonic() >= orphans_due:
                orphans_due = time.monotonic() + _ORPHANS_S
                self._release_orphans()
            for worker in self._workers:
                try:
                    worker.poll()
                except StoreError as error:
                    logger.warning("worker %s: %s", worker.device, error)
                    self._stopping.wait(1.0)
                except Exception:
                    logger.exception("watching worker %s failed; retrying", worker.device)
                    self._stopping.wait(1.0)
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + _STOP_S
        for worker in self._workers:
            worker.wait_for_end(deadline)

    def _release_orphans(self) -> None:
        """Release the jobs of workers whose devices are no longer in the settings, once they have ended."""
        try:
            for name in self._queue.workers_with_jobs() - {worker.device for worker in self._workers}:
                lock = FileLock.try_exclusive(lock_path(self._database.path.parent, name), write_pid=True)
                if lock is not None:
                    with lock:
                        self._queue.lease(name).release()
        except (StoreError, OSError) as error:
            logger.warning("jobs of earlier workers cannot be released: %s", error)


def list_devices() -> list[str]:
    """Return the devices that get a worker by default: each of several GPUs, else the machine's best device."""
    from runtime.engine.backends import list_backends
    from runtime.hardware import read_gpus

    if not any(backend.available and backend.on_gpu for backend in list_backends()):
        return ["cpu"]
    count = len(read_gpus())
    return [f"gpu:{number}" for number in range(count)] if count > 1 else ["gpu"]
