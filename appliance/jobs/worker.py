"""The worker process of one device: runs the jobs of the queue, one after the other.

It holds `workers/<device>.lock` while it runs. It ends on SIGTERM, with its supervisor, and when it has been idle for a
while after a job, to free the memory of that job.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.jobs.job import ExitCause, JobRecord, WorkerOptions
from appliance.jobs.job_files import JobFiles
from appliance.jobs.lease import JobLease
from appliance.jobs.progress_reporter import limit_memory
from appliance.signals import SignalEvent
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.errors import StoreError
from runtime.child_process import end_with_parent, forbid_network, lower_priority
from runtime.file_lock import FileLock

logger = logging.getLogger(__name__)

LOCK_HELD: Final = 75
"""The exit code of a worker whose device has another worker (EX_TEMPFAIL)."""
OUT_OF_MEMORY: Final = 76
"""The exit code of a worker that ran out of memory."""
_POLL_S: Final = 0.5
_LOCK_WAIT_S: Final = 2.0
_IDLE_AFTER_JOB_S: Final = 30.0
_LONGEST_WAIT_S: Final = 30.0
_EXIT_TIMEOUT_S: Final = 15.0


def lock_path(data: Path, device: str) -> Path:
    """Return the path of the lock of a device's worker."""
    return data / "workers" / f"{device}.lock"


def main(arguments: list[str] | None = None) -> int:
    """Run a worker until SIGTERM."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {options.device}: %(message)s")
    stopping = threading.Event()
    bell = SignalEvent(stopping)
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, bell.trigger)
    end_with_parent(options.parent, stopping.set)
    threading.Thread(target=_end_in_time, args=(stopping,), name="relume-end", daemon=True).start()
    lower_priority()
    forbid_network()
    lock = _take_lock(lock_path(options.data, options.device), stopping)
    if lock is None:
        return 0 if stopping.is_set() else LOCK_HELD
    try:
        with lock, Database(database_path(options.data)) as database:
            lease = JobLease(database, options.device)
            # This process holds the lock, so an earlier worker of this name has ended.
            lease.release(cause=ExitCause.EXTERNAL)
            worker_options = WorkerOptions(
                threads=options.threads,
                reserve_bytes=options.reserve_bytes,
                segment_frames=options.segment_frames,
                backend=options.backend,
                precision=options.precision,
                memory_bytes=options.memory_bytes,
            )
            _run_jobs(lease, stopping, worker_options)
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def _run_jobs(lease: JobLease, stopping: threading.Event, worker_options: WorkerOptions) -> None:
    """Run jobs until it is time to end."""
    failures = 0
    idle_since: float | None = None
    while not stopping.is_set():
        try:
            job = lease.claim()
            failures = 0
        except StoreError as error:
            failures += 1
            logger.warning("%s", error)
            stopping.wait(min(_LONGEST_WAIT_S, 2.0**failures))
            continue
        if job is not None:
            if _run_job(lease, job, stopping, worker_options):
                return
            idle_since = time.monotonic()
        elif idle_since is not None and time.monotonic() - idle_since > _IDLE_AFTER_JOB_S:
            return
        else:
            stopping.wait(_POLL_S)


def _run_job(lease: JobLease, job: JobRecord, stopping: threading.Event, worker_options: WorkerOptions) -> bool:
    """Run one job; return True if the process should end after it."""
    # Not before: an idle worker takes little memory.
    from appliance.jobs.run_job import Attempt

    if worker_options.memory_bytes is not None:
        from runtime.preload import load_libraries

        load_libraries()
        limit_memory(worker_options.memory_bytes)

    with _job_log(JobFiles(lease.data, job.id).log):
        logger.info("job %s, attempt %d: %s", job.id, job.attempts, job.source)
        attempt = Attempt(lease, job, stopping=stopping, worker_options=worker_options)
        try:
            attempt.run()
        except Exception:
            logger.exception("the worker met an unexpected error")
            raise
    return attempt.ran_out_of_memory


@contextmanager
def _job_log(path: Path) -> Generator[None]:
    """Write log messages, and the stack of a crash, to the job's log as well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        logger.warning("the job's log cannot be written: %s", error)
        yield
        return
    with stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.root.addHandler(handler)
        faulthandler.enable(stream)
        try:
            yield
        finally:
            faulthandler.disable()
            logging.root.removeHandler(handler)


def _take_lock(path: Path, stopping: threading.Event) -> FileLock | None:
    """Acquire the device's lock, waiting briefly for a worker that is about to exit."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = FileLock.try_exclusive(path, write_pid=True)
        if lock is not None or time.monotonic() > deadline or stopping.wait(0.1):
            return lock


def _end_in_time(stopping: threading.Event) -> None:
    """End the process soon after it was asked to stop, in any case."""
    stopping.wait()
    time.sleep(_EXIT_TIMEOUT_S)
    os._exit(1)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m appliance.jobs.worker", description="The worker of one device.")
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--device", default="cpu", help="device to run on; also the name of the worker")
    parser.add_argument("--parent", type=int, help="process id of the supervisor, with which it ends")
    parser.add_argument("--memory-bytes", type=int, help="memory limit")
    parser.add_argument("--threads", type=int, help="CPU threads of a job without the option")
    parser.add_argument("--backend", default="auto", help="inference backend of a job without the option")
    parser.add_argument("--precision", default="auto", help="precision of the video model of a job without the option")
    parser.add_argument("--reserve-bytes", type=int, default=0, help="bytes that stay free on the disk")
    parser.add_argument("--segment-frames", type=parse_segment_frames, metavar="LEAST-MOST", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def parse_segment_frames(text: str) -> tuple[int, int]:
    """Parse the least and most frames of a segment, such as 8-12."""
    least, most = text.split("-")
    return int(least), int(most)


if __name__ == "__main__":
    sys.exit(main())
