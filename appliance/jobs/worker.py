"""The worker process of one device: takes jobs from the queue, one after the other.

It holds `workers/<device>.lock` as long as it lives, which is how others know that it does. It ends on SIGTERM, with
its supervisor, and when it has been idle for a while after a job, to give back the memory that the job took.
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

from appliance.jobs.job import Blame, JobRecord
from appliance.jobs.progress_reporter import limit_memory
from appliance.jobs.queue import JobQueue
from appliance.jobs.run_job import Attempt, Conduct
from appliance.signals import SignalEvent
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.errors import StoreError
from runtime.child_process import die_with, forbid_network, give_way
from runtime.file_lock import LockFile
from runtime.resume.writer import SegmentRule

logger = logging.getLogger(__name__)

LOCK_HELD: Final = 75
"""The exit code of a worker whose device has another worker (EX_TEMPFAIL)."""
OUT_OF_MEMORY: Final = 76
"""The exit code of a worker that had not even the memory to say so."""
_LOOK_EVERY_S: Final = 0.5
_LOCK_WAIT_S: Final = 2.0
_IDLE_AFTER_JOB_S: Final = 30.0
_LONGEST_WAIT_S: Final = 30.0
_LAST_WORD_S: Final = 15.0


def lock_path(data: Path, device: str) -> Path:
    """Return the lock of a device's worker."""
    return data / "workers" / f"{device}.lock"


def main(arguments: list[str] | None = None) -> int:
    """Run a worker until it is told to end."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {options.device}: %(message)s")
    stopping = threading.Event()
    bell = SignalEvent(stopping)
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, bell.trigger)
    if options.parent is not None:
        die_with(options.parent)
    threading.Thread(target=_leash, args=(options.parent, stopping), name="relume-leash", daemon=True).start()
    give_way()
    forbid_network()
    if options.memory_bytes is not None:
        limit_memory(options.memory_bytes)
    lock = _take_lock(lock_path(options.data, options.device), stopping)
    if lock is None:
        return 0 if stopping.is_set() else LOCK_HELD
    try:
        with lock, Database(database_path(options.data)) as database:
            queue = JobQueue(database)
            # The lock is ours, so whoever held a job under this name is gone.
            queue.release(options.device, blame=Blame.UNKNOWN)
            conduct = Conduct(options.threads, options.reserve_bytes, options.rule, options.backend, options.precision)
            _work(queue, options.device, stopping, conduct)
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def _work(queue: JobQueue, device: str, stopping: threading.Event, conduct: Conduct) -> None:
    """Do jobs until it is time to end."""
    trouble = 0
    idle_since: float | None = None
    while not stopping.is_set():
        try:
            job = queue.claim(device)
            trouble = 0
        except StoreError as error:
            trouble += 1
            logger.warning("%s", error)
            stopping.wait(min(_LONGEST_WAIT_S, 2.0**trouble))
            continue
        if job is not None:
            if _do(queue, job, device, stopping, conduct):
                return
            idle_since = time.monotonic()
        elif idle_since is not None and time.monotonic() - idle_since > _IDLE_AFTER_JOB_S:
            return
        else:
            stopping.wait(_LOOK_EVERY_S)


def _do(queue: JobQueue, job: JobRecord, device: str, stopping: threading.Event, conduct: Conduct) -> bool:
    """Do one job; tell whether the process should end after it."""
    with _job_log(queue.files(job.id).log):
        logger.info("job %s, attempt %d: %s", job.id, job.attempts, job.source)
        attempt = Attempt(queue, job, device, stopping=stopping, conduct=conduct)
        try:
            attempt.run()
        except Exception:
            logger.exception("the worker met an unexpected error")
            raise
    return attempt.ran_out_of_memory


@contextmanager
def _job_log(path: Path) -> Generator[None]:
    """Write what is logged, and the stack of a crash, into the job's own log too."""
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


def _take_lock(path: Path, stopping: threading.Event) -> LockFile | None:
    """Take the device's lock, waiting a little for a worker that is just ending."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = LockFile.take(path)
        if lock is not None or time.monotonic() > deadline or stopping.wait(0.1):
            return lock


def _leash(parent: int | None, stopping: threading.Event) -> None:
    """End the process for certain: soon after it was told to, or after its supervisor has gone."""
    while not stopping.wait(1.0):
        if parent is not None and os.getppid() != parent:
            stopping.set()
    time.sleep(_LAST_WORD_S)
    os._exit(1)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m appliance.jobs.worker", description="The worker of one device.")
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--device", default="cpu", help="what it works on, and its name")
    parser.add_argument("--parent", type=int, help="the process with which it ends")
    parser.add_argument("--memory-bytes", type=int, help="the most memory that it may take")
    parser.add_argument("--threads", type=int, help="processor threads of a job that does not say itself")
    parser.add_argument("--backend", default="auto", help="what runs the models of a job that does not say itself")
    parser.add_argument("--precision", default="auto", help="how they count")
    parser.add_argument("--reserve-bytes", type=int, default=0, help="what stays free on the disk")
    parser.add_argument("--rule", type=parse_rule, metavar="LEAST-MOST", help="pictures in a segment, for tests")
    return parser.parse_args(arguments)


def parse_rule(text: str) -> SegmentRule:
    """Read a rule such as 8-12."""
    least, most = text.split("-")
    return SegmentRule(int(least), int(most))


if __name__ == "__main__":
    sys.exit(main())
