"""The place of one device's worker: starts it, watches it, and finds out why it died."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import appliance
from appliance.jobs.job import Blame, Wish
from appliance.jobs.lease import MOST_FAULTS, MOST_STOPS
from appliance.jobs.queue import JobQueue
from appliance.jobs.worker import LOCK_HELD, OUT_OF_MEMORY, lock_path
from appliance.store.errors import StoreError
from runtime.file_lock import LockFile, read_holder
from runtime.resume.writer import SegmentRule

logger = logging.getLogger(__name__)

HANG_S: Final = 300.0
HEED_S: Final = 30.0
_PATIENCE: Final = 4
"""So many times longer may a worker that works take to pause: what it works on would be lost."""
_LOOK_AT_BEATS_S: Final = 5.0
_SHORTEST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 30.0
_LONG_LIFE_S: Final = 10.0
_OLD_WORKER_S: Final = 30.0
_SMALLER: Final = "choose a smaller size, end other programs, or allow the worker more memory"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as the system page shows it."""

    device: str
    pid: int | None
    job: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What workers may do.

    `memory_bytes` None is all there is, `threads` None as many as there are processors. `reserve_bytes` of the data
    directory's disk stay free: a job that would use them ends with words before the disk is full. `backend` and
    `precision` are for jobs that do not say themselves. A worker that does nothing for `hang_s`, or has not paused or
    cancelled its job after `heed_s`, is ended.
    """

    memory_bytes: int | None = None
    threads: int | None = None
    reserve_bytes: int = 0
    hang_s: float = HANG_S
    heed_s: float = HEED_S
    most_faults: int = MOST_FAULTS
    most_stops: int = MOST_STOPS
    backend: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, slots=True)
class Death:
    """Why a worker ended, and how a job that fails for it tells of it."""

    blame: Blame
    reason: str = ""


class Seat:
    """The place of one device's worker."""

    def __init__(
        self,
        data: Path,
        device: str,
        queue: JobQueue,
        limits: Limits,
        rule: SegmentRule | None,
        log: Path | None,
        count_oom_kills: Callable[[], int | None],
    ) -> None:
        self.device = device
        self._data, self._queue, self._limits, self._rule = data, queue, limits, rule
        self._log, self._count_oom_kills = log, count_oom_kills
        self._lock = lock_path(data, device)
        self._process: subprocess.Popen[bytes] | None = None
        self._death = Death(Blame.UNKNOWN)
        self._started = self._next_start = self._beat_seen = self._beats_due = 0.0
        self._wait_s = _SHORTEST_WAIT_S
        self._beats = -1
        self._oom_kills: int | None = None
        self._hung = False
        self._unheeded: tuple[str, Wish] | None = None
        self._unheeded_since = 0.0
        self._old_since: float | None = None

    def status(self) -> WorkerStatus:
        """Tell of the worker."""
        process = self._process
        return WorkerStatus(self.device, None if process is None else process.pid, self._queue.held_by(self.device))

    def look(self) -> None:
        """Do what is due: start the worker, note its end, or end one that hangs."""
        if self._process is None:
            if time.monotonic() >= self._next_start:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._bury(code)
        elif time.monotonic() >= self._beats_due:
            self._beats_due = time.monotonic() + min(_LOOK_AT_BEATS_S, self._limits.hang_s / 4, self._limits.heed_s / 4)
            self._watch_beats()
            self._watch_wish()

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def wait_for_end(self, deadline: float) -> None:
        """Wait for the worker, and kill it when it takes too long; a job that it leaves goes on the next time."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("worker %s does not end; killing it", self.device)
            self._process.kill()
            self._process.wait()
        self._process = None
        try:
            self._queue.release(self.device, blame=Blame.NOBODY)
        except StoreError as error:
            logger.warning("worker %s: %s", self.device, error)

    def _start(self) -> None:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        lock = LockFile.take(self._lock)
        if lock is None:
            self._mind_old_worker()
            return
        with lock:
            self._old_since = None
            self._release()
        self._oom_kills = self._count_oom_kills()
        with ExitStack() as stack:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stderr=None if self._log is None else stack.enter_context(self._log.open("ab")),
                cwd=Path(appliance.__file__).parents[1],
                env={**os.environ, **visible_devices(self.device)},
                # Ctrl-C is for the server, which then ends its workers in order.
                start_new_session=True,
            )
        self._started = self._beat_seen = time.monotonic()
        self._beats, self._hung = -1, False
        self._unheeded = None

    def _release(self) -> None:
        """Give back what the last worker held; it has ended."""
        job = self._queue.release(
            self.device,
            blame=self._death.blame,
            reason=self._death.reason,
            most_faults=self._limits.most_faults,
            most_stops=self._limits.most_stops,
        )
        if job is not None:
            logger.info("job %s was left by its worker; it is %s now", job.id, job.state)
        # Whatever is still held at the next start was left by someone whose end was not seen.
        self._death = Death(Blame.UNKNOWN)

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "appliance.jobs.worker", "--data", str(self._data), "--device", self.device]
        command += ["--parent", str(os.getpid())]
        if self._limits.memory_bytes is not None:
            command += ["--memory-bytes", str(self._limits.memory_bytes)]
        if self._limits.threads is not None:
            command += ["--threads", str(self._limits.threads)]
        command += ["--backend", self._limits.backend, "--precision", self._limits.precision]
        if self._limits.reserve_bytes:
            command += ["--reserve-bytes", str(self._limits.reserve_bytes)]
        if self._rule is not None:
            command += ["--rule", f"{self._rule.at_least}-{self._rule.at_most}"]
        return command

    def _mind_old_worker(self) -> None:
        """Wait for the worker of a server that has gone; it ends by itself, or is killed after a while."""
        now = time.monotonic()
        self._next_start = now + 0.5
        if self._old_since is None:
            self._old_since = now
            logger.info("worker %s of an earlier server is still ending; waiting for it", self.device)
        elif now - self._old_since > _OLD_WORKER_S:
            pid = read_holder(self._lock)
            if pid is not None and is_worker(pid, self._data):
                logger.warning("worker %s of an earlier server (process %d) does not end; killing it", self.device, pid)
                os.kill(pid, signal.SIGKILL)
            self._old_since = now

    def _bury(self, code: int) -> None:
        self._process = None
        self._death = self._find_cause(code)
        lived_s = time.monotonic() - self._started
        if code == 0:
            self._wait_s = 0.0
        elif lived_s > _LONG_LIFE_S:
            self._wait_s = _SHORTEST_WAIT_S
        else:
            self._wait_s = min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, 2 * self._wait_s))
        self._next_start = time.monotonic() + self._wait_s
        if code != 0:
            logger.warning(
                "worker %s ended with code %d%s; starting another in %.1f s",
                self.device,
                code,
                f" ({self._death.reason})" if self._death.reason else "",
                self._wait_s,
            )
        self._release()

    def _find_cause(self, code: int) -> Death:
        if code in (0, LOCK_HELD, -signal.SIGTERM):
            return Death(Blame.NOBODY)
        if self._hung:
            reason = f"nothing happened for {self._limits.hang_s:g} s, so it was ended"
        elif code == OUT_OF_MEMORY:
            reason = f"memory ran out; {_SMALLER}"
        elif code == -signal.SIGKILL:
            kills = self._count_oom_kills()
            if kills is not None and kills == self._oom_kills:
                return Death(Blame.UNKNOWN)
            reason = f"it was killed, probably because memory ran out; {_SMALLER}"
        elif code < 0:
            reason = f"it crashed ({signal.Signals(-code).name})"
            if self._limits.memory_bytes is not None:
                reason += f", perhaps because of its limit on memory; {_SMALLER}"
        else:
            reason = "it met an unexpected error"
        return Death(Blame.JOB, reason)

    def _watch_beats(self) -> None:
        assert self._process is not None
        beats = self._queue.beats(self.device)
        if beats != self._beats or self._queue.held_by(self.device) is None:
            self._beats, self._beat_seen = beats, time.monotonic()
        elif time.monotonic() - self._beat_seen > self._limits.hang_s:
            logger.warning("worker %s hangs; killing it", self.device)
            self._hung = True
            self._process.kill()

    def _watch_wish(self) -> None:
        """End a worker that does not pause or cancel its job; the queue then does with it what was wished."""
        assert self._process is not None
        now, unheeded = time.monotonic(), self._queue.unheeded(self.device)
        if unheeded != self._unheeded:
            self._unheeded, self._unheeded_since = unheeded, now
        if unheeded is None:
            return
        limit_s = self._limits.heed_s
        if unheeded[1] is Wish.PAUSE and now - self._beat_seen <= limit_s:
            limit_s *= _PATIENCE
        if now - self._unheeded_since > limit_s:
            logger.warning("worker %s does not %s job %s; killing it", self.device, unheeded[1], unheeded[0])
            self._process.kill()


def visible_devices(device: str) -> dict[str, str]:
    """Return the variables by which every library of CUDA sees the GPU of a device alone, or none."""
    kind, _, number = device.partition(":")
    if kind == "gpu":
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": number}
    return {"CUDA_VISIBLE_DEVICES": ""} if kind == "cpu" else {}


def read_oom_kills() -> int | None:
    """Count the processes that this kernel has ended for want of memory; None where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def is_worker(pid: int, data: Path) -> bool:
    """Return whether a process is a worker of a data directory; an id may have been given to another one since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"appliance.jobs.worker" in words and os.fsencode(data) in words
