"""How near a worker process comes to its limit on memory, which ends its job and not the box."""

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

from appliance.console import format_bytes
from appliance.jobs.errors import JobLostError
from appliance.jobs.job import JobRecord, Wish
from appliance.jobs.lease import Holding
from appliance.store.errors import StoreError
from runtime.closing import Closing
from runtime.options import Progress

_NEAR: Final = 0.8


def limit_memory(limit_bytes: int) -> None:
    """Make allocations beyond a limit fail, which ends a job with words instead of a killed process.

    It is the limit on data, not on addresses: engines reserve many more addresses than they use.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


class MemoryGauge:
    """Remembers how near this process came to its limit on memory.

    Libraries tell of a refused allocation in many ways, some of them as "generic error": the gauge says whether an
    error is likely one.
    """

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
        self.limit_bytes = None if soft == resource.RLIM_INFINITY else soft
        self._most_bytes = 0

    def look(self) -> None:
        """Take a reading; nothing is read where there is no limit."""
        if self.limit_bytes is not None:
            with suppress(OSError, ValueError, IndexError):
                pages = int(Path("/proc/self/statm").read_bytes().split()[5])
                self._most_bytes = max(self._most_bytes, pages * resource.getpagesize())

    def was_near(self) -> bool:
        """Return whether a reading was near the limit."""
        return self.limit_bytes is not None and self._most_bytes >= _NEAR * self.limit_bytes


logger = logging.getLogger(__name__)

_TELL_EVERY_S: Final = 0.5
_LOOKS: Final = 5
_BEAT_EVERY_S: Final = 1.0
_LEAST_SHARE: Final = 0.001
"""Of one processor, from which on the job works: reading from the slowest share takes more, idle threads a tenth."""


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """What shall stay free on the disk of a folder."""

    folder: Path
    reserve_bytes: int

    def is_short(self) -> bool:
        """Return whether less is free."""
        if not self.reserve_bytes:
            return False
        try:
            return shutil.disk_usage(self.folder).free < self.reserve_bytes
        except OSError:
            return False

    def describe(self) -> str:
        """Say what to do about it."""
        return (
            f"the disk of {self.folder} is nearly full: less than the reserve of {format_bytes(self.reserve_bytes)} "
            "is free; free some and retry the job, which goes on where it was"
        )


class Reporter(Closing):
    """Reports one job; `cancel` is set when it shall end, and `wish`, `is_lost`, `is_full` or the worker's end say why.

    `latest` is what the job said last, told or not.

    A heartbeat is told only when something happened since the last one: progress, or processor time that threads other
    than this one used. So a job that hangs goes silent although this thread lives.
    """

    def __init__(
        self, queue: Holding, job: JobRecord, worker: str, *, stopping: threading.Event, room: DiskRoom
    ) -> None:
        self._queue, self._job_id, self._worker, self._stopping = queue, job.id, worker, stopping
        self.cancel = threading.Event()
        self.wish: Wish | None = None
        self.room = room
        self.is_lost = self.is_full = False
        self.latest = Progress("opening", job.frames_done, job.frames_total)
        self._told: Progress | None = None
        self.gauge = MemoryGauge()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relume-reporter", daemon=True)
        self._thread.start()

    def progress(self, progress: Progress) -> None:
        """Take a progress message, from any thread; at most two a second are passed on."""
        self.latest = progress

    def stage(self, name: str) -> None:
        """Begin a stage of the worker's own."""
        self.latest = replace(self.latest, stage=name, eta_s=None)

    def close(self) -> None:
        """End the thread; what was told last stays."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        beat_due, beaten, is_busy = 0.0, None, True
        looked, used = time.monotonic(), _work_s()
        while True:
            if not self.cancel.is_set() and self.room.is_short():
                self.is_full = True
                self.cancel.set()
            if self._stopping.is_set():
                self.cancel.set()
            try:
                self._tell()
                now, used_now = time.monotonic(), _work_s()
                is_busy = is_busy or used_now - used > _LEAST_SHARE * (now - looked)
                looked, used = now, used_now
                if now >= beat_due and (is_busy or self.latest is not beaten):
                    self._queue.beat(self._worker, os.getpid())
                    beat_due, beaten, is_busy = now + _BEAT_EVERY_S, self.latest, False
            except JobLostError:
                logger.warning("job %s is no longer this worker's", self._job_id)
                self.is_lost = True
                self.cancel.set()
                return
            except StoreError as error:
                # The job goes on: what could not be told now is told the next time.
                logger.warning("progress could not be stored: %s", error)
            except Exception:
                logger.exception("the reporter failed; the job goes on without telling of it")
            if self._rest():
                return

    def _rest(self) -> bool:
        """Wait for the next turn, reading the gauge meanwhile; tell whether there is none."""
        for _ in range(_LOOKS):
            self.gauge.look()
            if self._ends.wait(_TELL_EVERY_S / _LOOKS):
                return True
        return False

    def _tell(self) -> None:
        latest = self.latest
        if latest is not self._told:
            wish = self._queue.progress(self._job_id, self._worker, latest)
            self._told = latest
        else:
            wish = self._queue.wish(self._job_id, self._worker)
        self._heed(wish)

    def _heed(self, wish: Wish | None) -> None:
        if wish is not None and not self.cancel.is_set():
            self.wish = wish
            self.cancel.set()


def _work_s() -> float:
    """Return the processor time of all other threads of this process: the reporter's own says nothing about the job."""
    return time.process_time() - time.thread_time()
