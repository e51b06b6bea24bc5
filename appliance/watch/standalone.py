"""`relume watch`: one watch folder without the server, with the same queue and workers in a small data directory."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.enhance_command import describe_progress
from appliance.jobs.job import JobRecord, JobState
from appliance.jobs.queue import JobQueue
from appliance.jobs.supervisor import Supervisor
from appliance.maintenance.logs import log_to_file, rotate
from appliance.store.data_dir import database_path, open_data_directory
from appliance.store.database import Database
from appliance.watch.errors import FolderError
from appliance.watch.file_state import FileState
from appliance.watch.folder import FolderConfig, Problem, WatchFolder
from appliance.watch.job_tracker import RetryPolicy
from appliance.watch.scan import show_name
from appliance.watch.store import FolderStore
from appliance.watch.watcher import Watcher
from runtime.errors import OutputError
from runtime.progress import Progress

DATA_NAME: Final = ".relume"
_POLL_S: Final = 0.5
_PROGRESS_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a watch ended: stopped or not, files done, and problems."""

    is_stopped: bool
    done: int
    problems: tuple[Problem, ...]


def watch_folder(
    config: FolderConfig,
    *,
    data: Path | None = None,
    once: bool = False,
    cancel: threading.Event,
    say: Callable[[str], None] = print,
    retry_policy: RetryPolicy | None = None,
    devices: tuple[str, ...] | None = None,
) -> Outcome:
    """Watch a folder until `cancel` is set or, with `once`, until all files are processed.

    Args:
        config: The folder; files that an earlier watch of it has processed are not processed again.
        data: The data directory; `.relume` in the destination if None.
        once: End when all files are processed.
        cancel: Ends the watch; running jobs resume at the next start.
        say: Is called with a line for every event.
        retry_policy: When failures are retried; never with `once`.
        devices: Devices to run on; the best one if None.

    Raises:
        FolderError: The folder cannot be watched.
        StoreError: Another process uses the data directory.
        OutputError: The destination cannot be created.
    """
    if retry_policy is None and once:
        retry_policy = RetryPolicy(tries=1)
    lines = threading.Lock()

    def notify(name: str, text: str) -> None:
        with lines:
            say(f"{show_name(name)}: {text}")

    with ExitStack() as stack:
        if not os.path.isdir(config.path):
            raise FolderError(f"the folder {config.path} does not exist; create or mount it first")
        directory = stack.enter_context(open_data_directory(_data_directory(config, data)))
        log = stack.enter_context(log_to_file(directory))
        database = stack.enter_context(Database(database_path(directory)))
        store, queue = FolderStore(database), JobQueue(database)
        folder = _register(store, config)
        workers = stack.enter_context(Supervisor(directory, devices=devices, log=rotate(log.with_name("workers.log"))))
        watcher = stack.enter_context(
            Watcher(
                store,
                queue,
                retry_policy=retry_policy,
                only={folder.id},
                notify=lambda _, name, text: notify(name, text),
            )
        )
        workers.start()
        notify(str(config.path), "watching; Ctrl-C stops, and the next start resumes")
        screen = _Screen(queue, store, folder, notify)
        while not cancel.wait(_POLL_S):
            screen.show()
            if once and watcher.is_idle(folder.id):
                break
        is_stopped = cancel.is_set()
        if is_stopped:
            notify(str(config.path), "stopping")
        done = len(store.files(folder.id).files(FileState.DONE))
        return Outcome(is_stopped, done, tuple(store.problems(folder.id)))


def _data_directory(config: FolderConfig, data: Path | None) -> Path:
    if data is not None:
        return data
    try:
        config.destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {config.destination} cannot be created: {error.strerror}; choose another"
        ) from error
    return config.destination / DATA_NAME


def _register(store: FolderStore, config: FolderConfig) -> WatchFolder:
    """Add the folder, or update one that was watched before."""
    known = next((folder for folder in store.list() if folder.config.path == config.path), None)
    return store.add(config) if known is None else store.update(known.id, config)


class _Screen:
    """Reports the progress of jobs at intervals, and problems of the folder at once."""

    def __init__(
        self, queue: JobQueue, store: FolderStore, folder: WatchFolder, notify: Callable[[str, str], None]
    ) -> None:
        self._queue, self._store, self._folder, self._notify = queue, store, folder, notify
        self._revision = queue.revision()
        self._due = 0.0
        self._running = ""
        self._trouble = ""

    def show(self) -> None:
        """Report changes."""
        trouble = next((problem.reason for problem in self._store.problems(self._folder.id) if not problem.file), "")
        if trouble != self._trouble:
            self._notify(str(self._folder.config.path), trouble or "watching again")
            self._trouble = trouble
        revision = self._queue.revision()
        if revision == self._revision:
            return
        for job in self._queue.changed_since(self._revision):
            if job.state is JobState.RUNNING and (job.id != self._running or time.monotonic() >= self._due):
                self._running, self._due = job.id, time.monotonic() + _PROGRESS_S
                self._notify(job.title, _describe(job))
        self._revision = revision


def _describe(job: JobRecord) -> str:
    facts = describe_progress(Progress(job.stage, job.frames_done, job.frames_total, fps=job.fps, eta_s=job.eta_s))
    return f"{job.stage}, {facts}" if facts else (job.stage or "started")
