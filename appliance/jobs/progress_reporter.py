"""Progress of one job from its worker to the queue, and its commands back; memory and disk limits of the worker."""

import logging
import os
import resource
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from appliance.console import format_bytes
from appliance.jobs.errors import JobLostError
from appliance.jobs.job import JobCommand, JobRecord
from appliance.jobs.lease import JobLease
from appliance.store.errors import StoreError
from runtime.closing import Closing
from runtime.progress import Progress

_NEAR: Final = 0.8


def limit_memory(limit_bytes: int) -> None:
    """Limit the memory of this process: allocations beyond it fail, so that the job ends with an error message.

    This limits data (`RLIMIT_DATA`), not address space: engines reserve many more addresses than they use.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


class MemoryGauge:
    """The peak memory of this process against its limit.

    Libraries report a refused allocation in many ways, some as "generic error": near the limit it is likely one.
    """

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
        self.limit_bytes = None if soft == resource.RLIM_INFINITY else soft
        self._peak_bytes = 0

    def sample(self) -> None:
        """Read the memory in use; does nothing without a limit."""
        if self.limit_bytes is not None:
            self._peak_bytes = max(self._peak_bytes, psutil.Process().memory_info().data)

    def was_near(self) -> bool:
        """Return True if a sample was near the limit."""
        return self.limit_bytes is not None and self._peak_bytes >= _NEAR * self.limit_bytes


logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 0.5
_SAMPLES: Final = 5
"""Readings of the memory in each interval."""
_HEARTBEAT_S: Final = 1.0
_MIN_CPU_SHARE: Final = 0.001
"""CPU use above which the job is at work: reading from the slowest share takes more, idle threads a tenth."""


@dataclass(frozen=True, slots=True)
class DiskReserve:
    """Bytes that stay free on the disk of a folder."""

    folder: Path
    reserve_bytes: int

    def is_short(self) -> bool:
        """Return True if less is free."""
        if not self.reserve_bytes:
            return False
        try:
            return shutil.disk_usage(self.folder).free < self.reserve_bytes
        except OSError:
            return False

    def describe(self) -> str:
        """Return the message of a job that ends for it."""
        return (
            f"the disk of {self.folder} is nearly full: less than the reserve of {format_bytes(self.reserve_bytes)} "
            "is free; free some space and retry the job, which then resumes"
        )


class ProgressReporter(Closing):
    """Reports one job from a thread; sets `cancel` to end it for `command`, `is_lost`, `is_full` or `stopping`.

    `latest` is the latest progress, stored or not.

    There is a heartbeat only after progress, or after CPU time that threads other than this one used. So the heartbeats
    of a job that hangs stop although this thread runs.
    """

    def __init__(self, lease: JobLease, job: JobRecord, *, stopping: threading.Event, reserve: DiskReserve) -> None:
        self._lease, self._job_id, self._stopping = lease, job.id, stopping
        self.cancel = threading.Event()
        self.command: JobCommand | None = None
        self.reserve = reserve
        self.is_lost = self.is_full = False
        self.latest = Progress("opening", job.frames_done, job.frames_total)
        self._stored: Progress | None = None
        self.gauge = MemoryGauge()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relume-reporter", daemon=True)
        self._thread.start()

    def progress(self, progress: Progress) -> None:
        """Accept progress, from any thread; at most two messages a second are stored."""
        self.latest = progress

    def stage(self, name: str) -> None:
        """Start a stage of the worker itself."""
        self.latest = replace(self.latest, stage=name, eta_s=None)

    def close(self) -> None:
        """End the thread."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        heartbeat_due, reported, is_busy = 0.0, None, True
        measured, used = time.monotonic(), _cpu_s()
        while True:
            if not self.cancel.is_set() and self.reserve.is_short():
                self.is_full = True
                self.cancel.set()
            if self._stopping.is_set():
                self.cancel.set()
            try:
                self._store()
                now, used_now = time.monotonic(), _cpu_s()
                is_busy = is_busy or used_now - used > _MIN_CPU_SHARE * (now - measured)
                measured, used = now, used_now
                if now >= heartbeat_due and (is_busy or self.latest is not reported):
                    self._lease.heartbeat(os.getpid())
                    heartbeat_due, reported, is_busy = now + _HEARTBEAT_S, self.latest, False
            except JobLostError:
                logger.warning("this worker no longer holds job %s", self._job_id)
                self.is_lost = True
                self.cancel.set()
                return
            except StoreError as error:
                # The job goes on; the next turn stores its progress.
                logger.warning("progress could not be stored: %s", error)
            except Exception:
                logger.exception("progress reporting failed; the job goes on")
            if self._wait():
                return

    def _wait(self) -> bool:
        """Wait for the next turn, sampling the memory meanwhile; return True at the end."""
        for _ in range(_SAMPLES):
            # Without this thread the job would be taken to hang, and nobody could cancel it.
            with suppress(psutil.Error, OSError, MemoryError):
                self.gauge.sample()
            if self._ends.wait(_INTERVAL_S / _SAMPLES):
                return True
        return False

    def _store(self) -> None:
        latest = self.latest
        if latest is not self._stored:
            command = self._lease.progress(self._job_id, latest)
            self._stored = latest
        else:
            command = self._lease.command(self._job_id)
        self._apply_command(command)

    def _apply_command(self, command: JobCommand | None) -> None:
        if command is not None and not self.cancel.is_set():
            self.command = command
            self.cancel.set()


def _cpu_s() -> float:
    """Return the CPU time of all other threads of this process: the reporter's own says nothing about the job."""
    return time.process_time() - time.thread_time()
