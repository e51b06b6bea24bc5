"""The worker process of one device from the supervisor's side: starts it, watches it, and finds out why it ended."""

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

import psutil

import appliance
from appliance.jobs.job import ExitCause, JobCommand
from appliance.jobs.lease import MAX_CRASHES, MAX_EXTERNAL_KILLS, JobLease
from appliance.jobs.worker import LOCK_HELD, OUT_OF_MEMORY, lock_path
from appliance.store.errors import StoreError
from runtime.file_lock import FileLock, read_holder

logger = logging.getLogger(__name__)

HANG_TIMEOUT_S: Final = 300.0
COMMAND_TIMEOUT_S: Final = 30.0
_BUSY_FACTOR: Final = 4
"""A busy worker has this many times longer to pause: the segment that it works on would be lost."""
_CHECK_S: Final = 5.0
_MIN_WAIT_S: Final = 0.2
_MAX_WAIT_S: Final = 30.0
_STABLE_AFTER_S: Final = 10.0
_PREVIOUS_WORKER_S: Final = 30.0
_ADVICE: Final = "choose a smaller size, close other programs, or raise the worker's memory limit"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """Status of a worker, for the system page."""

    device: str
    pid: int | None
    job: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits and default options of workers.

    `memory_bytes` None is no limit, `threads` None one for each processor. `reserve_bytes` of the data directory's disk
    stay free: a job that would use them fails before the disk is full. `backend` and `precision` are for jobs without
    these options. A worker without a heartbeat for `hang_timeout_s`, or that has not paused or cancelled its job after
    `command_timeout_s`, is killed.
    """

    memory_bytes: int | None = None
    threads: int | None = None
    reserve_bytes: int = 0
    hang_timeout_s: float = HANG_TIMEOUT_S
    command_timeout_s: float = COMMAND_TIMEOUT_S
    max_crashes: int = MAX_CRASHES
    max_external_kills: int = MAX_EXTERNAL_KILLS
    backend: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """Why a worker ended, and the reason in the message of a job that fails for it."""

    cause: ExitCause
    reason: str = ""


class WorkerProcess:
    """The worker of one device, started again whenever it has ended."""

    def __init__(
        self,
        lease: JobLease,
        limits: Limits,
        segment_frames: tuple[int, int] | None,
        log: Path | None,
        count_oom_kills: Callable[[], int | None],
    ) -> None:
        self.device = lease.worker
        self._data, self._lease, self._limits, self._segment_frames = lease.data, lease, limits, segment_frames
        self._log, self._count_oom_kills = log, count_oom_kills
        self._lock = lock_path(lease.data, self.device)
        self._process: subprocess.Popen[bytes] | None = None
        self._exit = WorkerExit(ExitCause.EXTERNAL)
        self._started = self._next_start = self._heartbeat_at = self._check_due = 0.0
        self._wait_s = _MIN_WAIT_S
        self._heartbeats = -1
        self._oom_kills: int | None = None
        self._hung = False
        self._pending: tuple[str, JobCommand] | None = None
        self._pending_since = 0.0
        self._previous_since: float | None = None

    def status(self) -> WorkerStatus:
        """Return the status of the worker."""
        process = self._process
        return WorkerStatus(self.device, None if process is None else process.pid, self._lease.job_id)

    def poll(self) -> None:
        """Do what is due: start the worker, handle its exit, or kill one that hangs."""
        if self._process is None:
            if time.monotonic() >= self._next_start:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._handle_exit(code)
        elif time.monotonic() >= self._check_due:
            timeout_s = min(self._limits.hang_timeout_s, self._limits.command_timeout_s)
            self._check_due = time.monotonic() + min(_CHECK_S, timeout_s / 4)
            self._check_heartbeat()
            self._check_command()

    def terminate(self) -> None:
        """Ask the worker to end, with SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def wait_for_end(self, deadline: float) -> None:
        """Wait for the end of the worker until a deadline, then kill it; its job resumes at the next start."""
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
            self._lease.release(cause=ExitCause.REQUESTED)
        except StoreError as error:
            logger.warning("worker %s: %s", self.device, error)

    def _start(self) -> None:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock.try_exclusive(self._lock, write_pid=True)
        if lock is None:
            self._wait_for_previous_worker()
            return
        with lock:
            self._previous_since = None
            self._release()
        self._oom_kills = self._count_oom_kills()
        with ExitStack() as stack:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stderr=None if self._log is None else stack.enter_context(self._log.open("ab")),
                cwd=Path(appliance.__file__).parents[1],
                env={**os.environ, **visible_devices(self.device)},
                # Ctrl-C is for the server, which then ends its workers.
                start_new_session=True,
            )
        self._started = self._heartbeat_at = time.monotonic()
        self._heartbeats, self._hung = -1, False
        self._pending = None

    def _release(self) -> None:
        """Release the job of the last worker, which has ended."""
        job = self._lease.release(
            cause=self._exit.cause,
            reason=self._exit.reason,
            max_crashes=self._limits.max_crashes,
            max_external_kills=self._limits.max_external_kills,
        )
        if job is not None:
            logger.info("job %s lost its worker; it is %s now", job.id, job.state)
        # The exit of a worker that still holds a job at the next start was not observed.
        self._exit = WorkerExit(ExitCause.EXTERNAL)

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
        if self._segment_frames is not None:
            command += ["--segment-frames", "{}-{}".format(*self._segment_frames)]
        return command

    def _wait_for_previous_worker(self) -> None:
        """Wait for the worker of an earlier server, which ends, or is killed after a while."""
        now = time.monotonic()
        self._next_start = now + 0.5
        if self._previous_since is None:
            self._previous_since = now
            logger.info("worker %s of an earlier server is still ending; waiting for it", self.device)
        elif now - self._previous_since > _PREVIOUS_WORKER_S:
            pid = read_holder(self._lock)
            if pid is not None and is_worker(pid, self._data):
                logger.warning("worker %s of an earlier server (process %d) does not end; killing it", self.device, pid)
                os.kill(pid, signal.SIGKILL)
            self._previous_since = now

    def _handle_exit(self, code: int) -> None:
        self._process = None
        self._exit = self._find_cause(code)
        lived_s = time.monotonic() - self._started
        if code == 0:
            self._wait_s = 0.0
        elif lived_s > _STABLE_AFTER_S:
            self._wait_s = _MIN_WAIT_S
        else:
            self._wait_s = min(_MAX_WAIT_S, max(_MIN_WAIT_S, 2 * self._wait_s))
        self._next_start = time.monotonic() + self._wait_s
        if code != 0:
            logger.warning(
                "worker %s ended with code %d%s; starting another in %.1f s",
                self.device,
                code,
                f" ({self._exit.reason})" if self._exit.reason else "",
                self._wait_s,
            )
        self._release()

    def _find_cause(self, code: int) -> WorkerExit:
        if code in (0, LOCK_HELD, -signal.SIGTERM):
            return WorkerExit(ExitCause.REQUESTED)
        if self._hung:
            reason = f"it made no progress for {self._limits.hang_timeout_s:g} s and was killed"
        elif code == OUT_OF_MEMORY:
            reason = f"it ran out of memory; {_ADVICE}"
        elif code == -signal.SIGKILL:
            kills = self._count_oom_kills()
            if kills is not None and kills == self._oom_kills:
                return WorkerExit(ExitCause.EXTERNAL)
            reason = f"it was killed, probably because the machine ran out of memory; {_ADVICE}"
        elif code < 0:
            reason = f"it crashed ({signal.Signals(-code).name})"
            if self._limits.memory_bytes is not None:
                reason += f", perhaps because of its memory limit; {_ADVICE}"
        else:
            reason = "it met an unexpected error"
        return WorkerExit(ExitCause.JOB, reason)

    def _check_heartbeat(self) -> None:
        assert self._process is not None
        heartbeats = self._lease.heartbeats()
        if heartbeats != self._heartbeats or self._lease.job_id is None:
            self._heartbeats, self._heartbeat_at = heartbeats, time.monotonic()
        elif time.monotonic() - self._heartbeat_at > self._limits.hang_timeout_s:
            logger.warning("worker %s hangs; killing it", self.device)
            self._hung = True
            self._process.kill()

    def _check_command(self) -> None:
        """Kill a worker that does not pause or cancel its job; its release then applies the command."""
        assert self._process is not None
        now, pending = time.monotonic(), self._lease.pending_command()
        if pending != self._pending:
            self._pending, self._pending_since = pending, now
        if pending is None:
            return
        limit_s = self._limits.command_timeout_s
        if pending[1] is JobCommand.PAUSE and now - self._heartbeat_at <= limit_s:
            limit_s *= _BUSY_FACTOR
        if now - self._pending_since > limit_s:
            logger.warning("worker %s does not %s job %s; killing it", self.device, pending[1], pending[0])
            self._process.kill()


def visible_devices(device: str) -> dict[str, str]:
    """Return environment variables with which CUDA libraries see only the GPU of a device, or none.

    A device is numbered among the GPUs that this process sees.
    """
    kind, _, number = device.partition(":")
    if kind == "gpu" and number:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if seen != [""]:
            number = seen[int(number)].strip() if int(number) < len(seen) else ""
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": number}
    return {"CUDA_VISIBLE_DEVICES": ""} if kind == "cpu" else {}


def read_oom_kills() -> int | None:
    """Return the number of processes that the kernel killed for lack of memory, None where it is unknown."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def is_worker(pid: int, data: Path) -> bool:
    """Return True if a process is a worker of a data directory: its id may belong to another one by now."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return "appliance.jobs.worker" in words and str(data) in words
